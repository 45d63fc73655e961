//! `port`: where does the host have a container's ports?

use std::process::ExitCode;

use super::super::output::put;
use super::super::report::Failure;
use crate::containers::network::{self, Exposed};
use crate::containers::record;
use crate::store::Store;

/// Flags of `port`.
#[derive(Debug, clap::Args)]
pub(crate) struct PortOf {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// A port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

impl PortOf {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let record = record::of_name(store, &self.container)?;
        let ports = network::shown(&record);
        let published = ports.iter().filter_map(|port| Some((port.container, port.host?)));
        let text: String = match &self.port {
            None => published
                .map(|(inside, host)| format!("{inside} -> {host}\n"))
                .collect(),
            Some(wanted) => {
                let wanted = one(wanted)?;
                published
                    .filter(|(inside, _)| *inside == wanted)
                    .map(|(_, host)| format!("{host}\n"))
                    .collect()
            }
        };
        if let Some(wanted) = self.port.as_deref().filter(|_| text.is_empty()) {
            let wanted = one(wanted)?;
            return Err(Failure::new(format!(
                "no public port '{wanted}' published for {}",
                self.container
            )));
        }
        put(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn one(text: &str) -> Result<Exposed, Failure> {
    let mut ports = network::expose(text).map_err(|_| Failure::new(format!("invalid port: {text}")))?;
    match (ports.next(), ports.next()) {
        (Some(port), None) => Ok(port),
        _ => Err(Failure::new(format!("invalid port: {text}"))),
    }
}
