//! How is a file locked and replaced? Written aside, synced when it must last, renamed into place.
