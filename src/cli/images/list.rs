//! `images`: a row for each name of each image.

use std::collections::HashMap;

use serde_json::{Map, json};

use super::now;
use crate::cli::output::{Listing, Row, human_duration, human_size, local_time, put, short_id};
use crate::cli::report::Failure;
use crate::images;
use crate::images::list::{Filters, labels};
use crate::images::names::{Record, References};
use crate::images::reference::Reference;
use crate::store::Store;

/// Flags of `images`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Accepted for Docker's sake: there are no hidden intermediate images
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show only images for which this holds (dangling, reference, label, before, since, until)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, a Go template, or "table" and a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

const FIELDS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];
const PLAIN: Listing = Listing {
    fields: FIELDS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
const WITH_DIGESTS: Listing = Listing {
    fields: FIELDS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

/// What stands for something that an image does not have.
const NONE: &str = "<none>";

impl List {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let references = References::load(store)?;
        let now = now();
        let mut filters = Filters::parse(&self.filter, &references, now)?;
        if let Some(repository) = &self.repository {
            filters.also_reference(repository.clone());
        }
        let mut images: Vec<&Record> = references.images().collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created.unwrap_or(i64::MIN)));
        let wants_labels = self
            .format
            .as_deref()
            .is_some_and(|format| format.contains(".Label"));
        let mut rows = Vec::new();
        for image in images {
            if !filters.accept(store, image)? {
                continue;
            }
            let labels = match wants_labels {
                true => labels(store, image)?.unwrap_or_default(),
                false => HashMap::new(),
            };
            let labels: Map<_, _> = labels
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            for name in self.names(image, &filters)? {
                rows.push(Row {
                    fields: self.fields(image, &name, now),
                    labels: labels.clone(),
                });
            }
        }
        match (self.quiet, self.format.as_deref()) {
            (true, None | Some("table")) => {
                let ids = rows.iter().filter_map(|row| row.fields.get("ID")?.as_str());
                put(&ids.map(|id| format!("{id}\n")).collect::<String>())
            }
            (true, Some(format)) if format.starts_with("table ") => {
                let ids = Listing {
                    fields: FIELDS,
                    table: "{{.ID}}",
                };
                ids.print(&rows, None)
            }
            (_, format) if self.digests => WITH_DIGESTS.print(&rows, format),
            (_, format) => PLAIN.print(&rows, format),
        }
    }

    /// (repository, tag, digest) of each row that the image gets.
    fn names(&self, image: &Record, filters: &Filters) -> Result<Vec<[String; 3]>, images::Error> {
        let parse = |name: &String| Reference::parse(name).ok();
        let digests: Vec<Reference> = image.digests.iter().filter_map(parse).collect();
        let mut rows = Vec::new();
        for name in image.names.iter().filter_map(parse) {
            if filters.accept_name(Some(&name))? {
                let same = |digest: &&Reference| digest.repository() == name.repository();
                let digest = digests.iter().find(same).and_then(|found| found.digest());
                rows.push([
                    name.familiar_repository(),
                    name.tag().unwrap_or(NONE).into(),
                    digest.map_or_else(|| NONE.into(), |digest| digest.to_string()),
                ]);
            }
        }
        if !image.is_dangling() {
            return Ok(rows);
        }
        for name in &digests {
            if filters.accept_name(Some(name))? {
                let digest = name
                    .digest()
                    .map_or_else(|| NONE.into(), |digest| digest.to_string());
                rows.push([name.familiar_repository(), NONE.into(), digest]);
            }
        }
        // Several digests are told apart only where they are shown.
        if !self.digests {
            rows.dedup_by(|a, b| a[0] == b[0]);
        }
        if digests.is_empty() && filters.accept_name(None)? {
            rows.push([NONE.into(), NONE.into(), NONE.into()]);
        }
        Ok(rows)
    }

    fn fields(
        &self,
        image: &Record,
        [repository, tag, digest]: &[String; 3],
        now: i64,
    ) -> Map<String, serde_json::Value> {
        let id = if self.no_trunc {
            image.id.to_string()
        } else {
            short_id(&image.id.hex()).to_owned()
        };
        let since = image
            .created
            .map(|created| format!("{} ago", human_duration(now - created)));
        let unknown = || "N/A".to_owned();
        let fields = [
            ("Containers", unknown()),
            ("CreatedAt", image.created.map_or_else(unknown, local_time)),
            ("CreatedSince", since.unwrap_or_else(unknown)),
            ("Digest", digest.clone()),
            ("ID", id),
            ("Repository", repository.clone()),
            ("SharedSize", unknown()),
            ("Size", human_size(image.size)),
            ("Tag", tag.clone()),
            ("UniqueSize", unknown()),
            ("VirtualSize", human_size(image.size)),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect()
    }
}
