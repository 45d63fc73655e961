//! What do a tool that attaches and a supervisor say to each other, byte for byte? ARCHITECTURE.md, "Attaching", has the table.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::containers::log::Stream;
use crate::containers::spec::TerminalSize;

/// Longest payload in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// The version of the protocol that this program speaks.
pub(super) const VERSION: u32 = 1;

/// What a tool says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// Whether input may follow.
    pub(super) input: bool,
    /// Rows and columns of its terminal.
    #[serde(default)]
    pub(super) size: Option<(u16, u16)>,
}

/// What a supervisor says last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) code: i32,
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// From the tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Hello(Hello),
    Input(Vec<u8>),
    InputEnd,
    Size(TerminalSize),
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Output(Stream, Vec<u8>),
    LeftOut(u64),
    Ended(Ended),
    /// Nobody more is taken in: why.
    Refused(String),
}

fn put(out: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    out.write_all(&frame)
}

/// The next frame; `None` at the end.
fn take(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    loop {
        match from.read(&mut kind) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(unknown("a frame of more than 64 KiB"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some((kind[0], payload)))
}

fn unknown(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Asked {
    pub(super) fn send(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Asked::Hello(hello) => put(out, 0, &serde_json::to_vec(hello)?),
            Asked::Input(bytes) => put(out, 1, bytes),
            Asked::InputEnd => put(out, 2, &[]),
            Asked::Size(TerminalSize { rows, columns }) => {
                put(out, 3, &[rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
        }
    }

    pub(super) fn receive(from: &mut impl Read) -> io::Result<Option<Asked>> {
        let Some((kind, payload)) = take(from)? else {
            return Ok(None);
        };
        Ok(Some(match (kind, payload.as_slice()) {
            (0, text) => Asked::Hello(serde_json::from_slice(text)?),
            (1, _) => Asked::Input(payload),
            (2, _) => Asked::InputEnd,
            (3, &[a, b, c, d]) => Asked::Size(TerminalSize {
                rows: u16::from_le_bytes([a, b]),
                columns: u16::from_le_bytes([c, d]),
            }),
            _ => return Err(unknown("an unknown frame")),
        }))
    }
}

impl Told {
    pub(super) fn send(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Told::Output(Stream::Stdout, bytes) => put(out, 1, bytes),
            Told::Output(Stream::Stderr, bytes) => put(out, 2, bytes),
            Told::LeftOut(bytes) => put(out, 3, &bytes.to_le_bytes()),
            Told::Ended(ended) => put(out, 4, &serde_json::to_vec(ended)?),
            Told::Refused(why) => put(out, 5, why.as_bytes()),
        }
    }

    pub(super) fn receive(from: &mut impl Read) -> io::Result<Option<Told>> {
        let Some((kind, payload)) = take(from)? else {
            return Ok(None);
        };
        Ok(Some(match kind {
            1 => Told::Output(Stream::Stdout, payload),
            2 => Told::Output(Stream::Stderr, payload),
            3 => {
                let bytes = payload
                    .try_into()
                    .map_err(|_| unknown("a number of other length"))?;
                Told::LeftOut(u64::from_le_bytes(bytes))
            }
            4 => Told::Ended(serde_json::from_slice(&payload)?),
            5 => Told::Refused(String::from_utf8_lossy(&payload).into_owned()),
            _ => return Err(unknown("an unknown frame")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let size = TerminalSize {
            rows: 300,
            columns: 7,
        };
        let hello = Hello {
            version: VERSION,
            input: true,
            size: Some((1, 2)),
        };
        let asked = [
            Asked::Hello(hello),
            Asked::Input(b"x".to_vec()),
            Asked::InputEnd,
            Asked::Size(size),
        ];
        let mut bytes = Vec::new();
        asked.iter().for_each(|asked| asked.send(&mut bytes).unwrap());
        let mut from = &bytes[..];
        for one in asked {
            assert_eq!(Asked::receive(&mut from).unwrap(), Some(one));
        }
        assert_eq!(Asked::receive(&mut from).unwrap(), None);
        let ended = Ended { code: 3, error: None };
        let told = [
            Told::Output(Stream::Stdout, vec![0, 1]),
            Told::Output(Stream::Stderr, vec![]),
            Told::LeftOut(1 << 40),
            Told::Ended(ended),
            Told::Refused("full".into()),
        ];
        let mut bytes = Vec::new();
        told.iter().for_each(|told| told.send(&mut bytes).unwrap());
        let mut from = &bytes[..];
        for one in told {
            assert_eq!(Told::receive(&mut from).unwrap(), Some(one));
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        for bad in [
            &b"\x01\xff\xff\xff\xff"[..],
            b"\x09\0\0\0\0",
            b"\x03\x01\0\0\0x",
            b"\x01\x05\0\0\0ab",
            b"\x00\x02\0\0\0{]",
        ] {
            assert!(Asked::receive(&mut &*bad).is_err(), "{bad:?}");
            assert!(bad[0] == 0 || Told::receive(&mut &*bad).is_err(), "{bad:?}");
        }
    }
}
