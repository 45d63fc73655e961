//! Which calls are handed to the container's helper (`owners`)? Those that name an owner that is not mapped, and those that
//! make a device: the kernel refuses both before it asks the filesystem. The filter looks at the registers, so all other
//! chown(2) and mknod(2), as those to the one id that there is, cost nothing.

use super::ARCH;
use super::filter::{self, Program, bpf, instruction};

/// A call that may be handed over, and which of its arguments decide.
struct Call {
    name: &'static str,
    decisive: Decisive,
}

enum Decisive {
    /// User and group.
    Ids([u8; 2]),
    /// Mode and device number.
    Device([u8; 2]),
}

const CALLS: [Call; 6] = [
    ids("chown", 1),
    ids("lchown", 1),
    ids("fchown", 1),
    ids("fchownat", 2),
    device("mknod", 1),
    device("mknodat", 2),
];

const fn ids(name: &'static str, first: u8) -> Call {
    let decisive = Decisive::Ids([first, first + 1]);
    Call { name, decisive }
}

const fn device(name: &'static str, first: u8) -> Call {
    let decisive = Decisive::Device([first, first + 1]);
    Call { name, decisive }
}

/// Instructions and answers of linux/filter.h and linux/seccomp.h that only this filter has.
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// Where an argument lies: of its eight bytes the lower four, as the kernel cuts ids, modes and device numbers.
const fn argument(index: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    16 + 8 * index as u32 + low
}

/// What the kernel takes for "leave it".
const LEAVE: u32 = u32::MAX;

/// The program for a container in which this user and this group are all there is.
pub(in crate::containers::runtime) fn program(uid: u32, gid: u32) -> Program {
    let mut steps = vec![
        instruction(bpf::LOAD, 0, 0, bpf::ARCH),
        instruction(bpf::JUMP_EQUAL, 1, 0, filter::audit_arch(ARCH.0)),
        instruction(bpf::RETURN, 0, 0, ALLOW),
        instruction(bpf::LOAD, 0, 0, bpf::NUMBER),
    ];
    for call in CALLS {
        let Some(number) = filter::number(call.name, ARCH.0) else {
            continue;
        }; // another machine's
        let block = match call.decisive {
            Decisive::Ids([user, group]) => of_ids((user, uid), (group, gid)),
            Decisive::Device([mode, number]) => of_device(mode, number),
        };
        // The accumulator holds the number until a block begins, which never goes on to the next one.
        steps.push(instruction(bpf::JUMP_EQUAL, 0, block.len() as u8, number as u32));
        steps.extend(block);
    }
    steps.push(instruction(bpf::RETURN, 0, 0, ALLOW));
    steps.concat()
}

fn of_ids((user, uid): (u8, u32), (group, gid): (u8, u32)) -> Vec<[u8; 8]> {
    vec![
        instruction(bpf::LOAD, 0, 0, argument(user)),
        instruction(bpf::JUMP_EQUAL, 2, 0, uid),
        instruction(bpf::JUMP_EQUAL, 1, 0, LEAVE),
        instruction(bpf::RETURN, 0, 0, NOTIFY),
        instruction(bpf::LOAD, 0, 0, argument(group)),
        instruction(bpf::JUMP_EQUAL, 2, 0, gid),
        instruction(bpf::JUMP_EQUAL, 1, 0, LEAVE),
        instruction(bpf::RETURN, 0, 0, NOTIFY),
        instruction(bpf::RETURN, 0, 0, ALLOW),
    ]
}

/// The character device 0/0 is overlayfs's whiteout, which the kernel lets everybody make.
fn of_device(mode: u8, number: u8) -> Vec<[u8; 8]> {
    vec![
        instruction(bpf::LOAD, 0, 0, argument(mode)),
        instruction(AND, 0, 0, libc::S_IFMT),
        instruction(bpf::JUMP_EQUAL, 3, 0, libc::S_IFBLK),
        instruction(bpf::JUMP_EQUAL, 0, 3, libc::S_IFCHR),
        instruction(bpf::LOAD, 0, 0, argument(number)),
        instruction(bpf::JUMP_EQUAL, 1, 0, 0),
        instruction(bpf::RETURN, 0, 0, NOTIFY),
        instruction(bpf::RETURN, 0, 0, ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;

    fn answer(name: &str, arguments: [u32; 5]) -> u32 {
        let mut data = [0; 16];
        data[0] = filter::number(name, ARCH.0).unwrap() as u32;
        data[1] = filter::audit_arch(ARCH.0);
        for (at, argument) in arguments.iter().enumerate() {
            data[4 + 2 * at] = *argument;
        }
        run(&program(0, 0), &data)
    }

    #[test]
    fn an_owner_that_is_not_there_and_a_device_are_handed_over() {
        let (allow, notify) = (ALLOW, NOTIFY);
        for (ids, expected) in [
            ([0, 0], allow),
            ([LEAVE, LEAVE], allow),
            ([0, LEAVE], allow),
            ([LEAVE, 0], allow),
            ([33, 0], notify),
            ([0, 33], notify),
            ([LEAVE, 4], notify),
            ([1000, LEAVE], notify),
        ] {
            let [uid, gid] = ids;
            assert_eq!(answer("fchownat", [7, 9, uid, gid, 0]), expected, "{ids:?}");
            assert_eq!(answer("fchown", [7, uid, gid, 5, 5]), expected, "{ids:?}");
        }
        for (mode, device, expected) in [
            (libc::S_IFCHR | 0o666, 0x103, notify),
            (libc::S_IFBLK | 0o660, 0x700, notify),
            (libc::S_IFBLK, 0, notify),
            (libc::S_IFCHR, 0, allow),
            (libc::S_IFIFO | 0o600, 0x103, allow),
            (libc::S_IFSOCK, 0x103, allow),
            (0o644, 0x103, allow),
        ] {
            assert_eq!(
                answer("mknodat", [7, 9, mode, device, 0]),
                expected,
                "{mode:o} {device}"
            );
        }
        assert_eq!(answer("openat", [33, 33, 33, 33, 33]), allow);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_calls_of_before_are_handed_over_too() {
        for name in ["chown", "lchown"] {
            assert_eq!(answer(name, [7, 33, 33, 0, 0]), NOTIFY, "{name}");
            assert_eq!(answer(name, [7, 0, 0, 33, 33]), ALLOW, "{name}");
        }
        assert_eq!(answer("mknod", [7, libc::S_IFCHR, 0x103, 0, 0]), NOTIFY);
    }

    #[test]
    fn another_machines_calls_are_the_kernels() {
        let mut data = [0; 16];
        (data[0], data[5], data[6]) = (filter::number("fchown", ARCH.0).unwrap() as u32, 33, 33);
        assert_eq!(run(&program(0, 0), &data), ALLOW);
    }
}
