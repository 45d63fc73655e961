//! `history`: the steps by which an image was made, as its config tells them.

use serde_json::json;

use super::now;
use crate::cli::output::{Listing, Row, human_duration, human_size, local_time, put, short_id};
use crate::cli::report::Failure;
use crate::images::inspect::{Step, history};
use crate::images::{self};
use crate::store::Store;

/// Flags of `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// table, json, a Go template, or "table" and a Go template
    #[arg(long)]
    format: Option<String>,
    /// Sizes and dates for people
    #[arg(short = 'H', long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true)]
    human: bool,
    /// Do not cut long texts
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Name, id or beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const LISTING: Listing = Listing {
    fields: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

/// Longest text of "CREATED BY" that is not cut, in characters.
const CREATED_BY: usize = 45;

impl History {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let image = images::find(store, &self.image)?;
        let image = image.ok_or_else(|| images::Error::NoSuchImage(self.image.clone()))?;
        let steps = history(store, &image)?;
        let id = if self.no_trunc {
            image.id.to_string()
        } else {
            short_id(&image.id.hex()).to_owned()
        };
        // Only the last step has an id; those of its parents stayed where the image was made.
        let ids = std::iter::once(id.as_str()).chain(std::iter::repeat("<missing>"));
        if self.quiet {
            return put(&ids
                .take(steps.len())
                .map(|id| format!("{id}\n"))
                .collect::<String>());
        }
        let rows: Vec<Row> = steps
            .iter()
            .zip(ids)
            .map(|(step, id)| self.row(step, id))
            .collect();
        LISTING.print(&rows, self.format.as_deref())
    }

    fn row(&self, step: &Step, id: &str) -> Row {
        let created = step
            .created
            .as_ref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let since = created.map(|time| match self.human {
            true => format!("{} ago", human_duration(now() - time.as_second())),
            false => local_time(time.as_second()),
        });
        let mut by = step.created_by.replace('\t', " ");
        if !self.no_trunc && by.chars().count() > CREATED_BY {
            by = by.chars().take(CREATED_BY - 1).chain(['…']).collect();
        }
        let fields = json!({
            "Comment": step.comment,
            "CreatedAt": step.created.clone().unwrap_or_default(),
            "CreatedBy": by,
            "CreatedSince": since.unwrap_or_else(|| "N/A".into()),
            "ID": id,
            "Size": if self.human { human_size(step.size) } else { step.size.to_string() },
        });
        Row {
            fields: fields.as_object().cloned().unwrap_or_default(),
            ..Row::default()
        }
    }
}
