//! Bytes whose order and number the receiver can check.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};

/// What is sent again and again; a prime's length, so that no packet begins where another did.
fn block() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..99_991).map(next).collect()
}

/// Writes so many bytes, numbered by block, and gives their checksum.
pub fn send(to: &mut impl Write, mut bytes: u64) -> Vec<u8> {
    let (mut block, mut sum, mut number) = (block(), Sha256::new(), 0_u64);
    while bytes > 0 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        number += 1;
        let part = &block[..block.len().min(bytes as usize)];
        sum.update(part);
        to.write_all(part).unwrap();
        bytes -= part.len() as u64;
    }
    sum.finalize().to_vec()
}

/// Reads to the end, and gives how many there were and their checksum.
pub fn receive(from: &mut impl Read) -> (u64, Vec<u8>) {
    let (mut buffer, mut sum, mut bytes) = (vec![0; 256 << 10], Sha256::new(), 0);
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return (bytes, sum.finalize().to_vec()),
            read => {
                sum.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}
