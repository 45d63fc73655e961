//! Writing an index file: the tree is collected in memory by whoever knows it, then laid out in one go.

/// Collects nodes and entries of a tree and writes them as an index file.
#[derive(Debug, Default)]
pub struct Builder {}
