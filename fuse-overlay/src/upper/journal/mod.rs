//! The journal: what makes the inode table again after the server ended, however it ended.
