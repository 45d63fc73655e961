//! What can this machine do, and who is asking? Probed by use, never assumed from a version.
