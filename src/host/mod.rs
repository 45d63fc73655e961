//! What can this machine do, and who is asking? Probed by use, never assumed from a version.

pub mod account;
pub mod binfmt;
pub mod devices;
pub mod ids;
pub mod logout;
pub mod probe;
pub mod process;

pub use account::Account;
pub use devices::usable_devices;
pub use ids::{IdMaps, IdRange, Subordinate};
pub use logout::logout_warning;
pub use probe::Probe;
