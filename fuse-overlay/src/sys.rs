//! The crate's only unsafe code: each function a safe face over one thing that Rust cannot check.
#![allow(unsafe_code)]

use crate::name::Name;

/// Turns checked bytes into an owned name without copying them.
pub(crate) fn boxed_name(bytes: Box<[u8]>) -> Box<Name> {
    // SAFETY: `Name` is `repr(transparent)` over `[u8]`, so both fat pointers have one layout and length.
    unsafe { Box::from_raw(Box::into_raw(bytes) as *mut Name) }
}
