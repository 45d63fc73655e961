//! A `.dockerignore`, a NUL, a path: refused, or both implementations say the same of it, and a walk comes by what it keeps.
#![no_main]

#[path = "../../tests/common/dockerignore.rs"]
mod dockerignore;

use bryo::build::patterns::glob;
use bryo::build::patterns::ignore::{Ignore, Verdict};
use dockerignore::Peer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(nul) = bytes.iter().position(|&byte| byte == 0) else { return };
    let (text, path) = (&bytes[..nul], &bytes[nul + 1..]);
    // COPY's wildcards too must end, and with the pattern's own name match it.
    if !glob::has_wildcard(text) && !text.contains(&b'\\') {
        assert_eq!(glob::matches(text, path), Ok(text == path));
    }
    let ignore = Ignore::parse(text);
    let text = str::from_utf8(text);
    if let Ok(text) = text {
        assert_eq!(ignore.is_ok(), Peer::parse(text).is_some());
    }
    let Ok(ignore) = ignore else { return };
    if path.split(|&byte| byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        return;
    }
    let excluded = ignore.excludes(path);
    if let (Ok(text), Ok(path)) = (text, str::from_utf8(path)) {
        assert!(Peer::parse(text).is_some_and(|peer| peer.excludes(path) == excluded));
    }
    let mut above = Verdict::default();
    let slashes = (0..path.len()).filter(|&at| path[at] == b'/');
    for end in slashes {
        let dir = &path[..end];
        above = ignore.judge(dir, above);
        assert!(excluded || !above.excluded() || ignore.may_reinclude_below(dir, above));
    }
    assert_eq!(ignore.judge(path, above).excluded(), excluded);
});
