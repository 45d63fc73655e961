//! tar ↔ checked entries.
