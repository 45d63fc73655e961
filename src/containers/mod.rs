//! What is a container, from flags to its end? `spec`: flags → Spec; `record`: what is on disk; `runtime`: Spec →
//! steps → done; `supervisor`: who stays beside it.

pub mod runtime;
