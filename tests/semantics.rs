//! Does our tree answer like ext4? `semantics/semantics.py` asks many small questions in a directory of the container's
//! tree and, in the same container, in one of the host's ext4; the answers must be equal but for [`DIFFERENT`].
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Bryo, Done, has_id_range};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, statfs};

/// Behind the end of a file, in its last page, bytes can be written through a mapping. When the file grows over them, ext4
/// shows zeros, and a server of FUSE cannot: they lie in the kernel's page cache, whose writing out looks like that of bytes
/// that were written (`fuse_do_setattr` drops only what lies behind the new end, writes the rest out and reads it again;
/// `pagecache_isize_extended` does nothing where a block is a page, and FUSE has no other). The server cannot zero them
/// either: under writeback it learns a file's size late, and would zero what a write(2) brought. fuse-overlayfs answers the
/// same. mmap(2) promises nothing here.
const BEHIND_THE_END: &str = "the kernel's page cache holds them";

/// Where our tree answers differently than ext4, and why. One that no longer does is to be taken off.
const DIFFERENT: &[(&str, &str)] = &[
    ("bytes_behind_the_end_and_truncation_that_grows", BEHIND_THE_END),
    ("bytes_behind_the_end_and_a_write_behind_them", BEHIND_THE_END),
    ("bytes_behind_the_end_and_an_appended_write", BEHIND_THE_END),
    ("bytes_behind_the_end_and_allocation", BEHIND_THE_END),
    ("bytes_behind_the_end_and_a_copy_there", BEHIND_THE_END),
    (
        "truncation_by_name_to_the_same_size",
        "the kernel keeps files' times under writeback, and moves them only if the size changes (`fuse_do_setattr`), as POSIX \
         has it for truncate(2); it believes the server's only of an inode that it reads anew. fuse-overlayfs answers the same",
    ),
    (
        "set_gid_without_execution_and_a_member_by_another_group",
        "a request names the writer's first group alone; who is not in that loses a bit that gives nobody anything yet",
    ),
    (
        "reading_moves_the_access_time",
        "noatime, as documented: each read would be a message",
    ),
    (
        "seeking_data_and_holes",
        "LSEEK is answered ENOSYS: under writeback the server does not know the dirty pages, so all is data up to the end",
    ),
    (
        "collapsing_and_inserting",
        "the kernel's FUSE refuses these modes of fallocate",
    ),
    ("extents_of_a_file", "FUSE has no FIEMAP"),
    (
        "attributes_of_the_inode",
        "FUSE knows no lsattr without ioctls, which are not served",
    ),
    ("the_time_of_birth", "a tar has none, so none is kept"),
    (
        "direct_writes_that_are_not_aligned",
        "the kernel's FUSE takes any; ext4 wants what its disk wants",
    ),
    (
        "large_attributes",
        "ext4 has 4 KiB for all of them without its `ea_inode`, we have 64 KiB for each",
    ),
    (
        "offsets_between_ext4s_largest_and_ours",
        "our files may be larger than ext4's 16 TiB",
    ),
    ("times_that_ext4_cannot_hold", "our times have 64 bits of seconds"),
    (
        "opening_a_device",
        "the kernel opens none on a mount of a user namespace; 0/0 is a whiteout, which nobody opens",
    ),
    (
        "security_attributes",
        "the mount is the container's own, so its root may set them; ext4 is the host's",
    ),
    (
        "reading_without_waiting",
        "the kernel's FUSE has no RWF_NOWAIT and says so; callers then read as usual",
    ),
    (
        "times_of_a_pipe",
        "the kernel's FUSE keeps times of regular files alone, and a pipe's bytes reach no server",
    ),
    (
        "waiting_for_a_regular_file",
        "the kernel's FUSE lets any file be polled; it is always ready",
    ),
];

/// Where it does only for users without an id range.
const DIFFERENT_WITH_ONE_ID: &[(&str, &str)] = &[
    (
        "devices_are_not_for_containers",
        "recorded for images that need them; the kernel opens none of them",
    ),
    (
        "owners_that_are_not_mapped",
        "all owners but one are unmapped there, so they are recorded for the image, whatever their number",
    ),
];

/// What the answer of a case begins with that was not asked.
const LEFT_OUT: &str = "left out";

#[test]
fn our_tree_answers_like_ext4() {
    let (bryo, image) = Bryo::with_image("software");
    let host = bryo.scratch("host");
    fs::create_dir_all(&host).unwrap();
    let kind = statfs(&host).unwrap().filesystem_type();
    assert_eq!(
        kind,
        EXT4_SUPER_MAGIC,
        "the yardstick must be ext4: {}",
        host.display()
    );
    let volumes = [
        format!("{}/tests/semantics:/cases:ro", env!("CARGO_MANIFEST_DIR")),
        format!("{}:/host", host.display()),
    ];
    let ids = if has_id_range() { "" } else { "one-id" };
    // The host's first: the other takes programs of the image away.
    let script = format!(
        "python3 -B /cases/semantics.py /host/cases {ids} >&2; python3 -B /cases/semantics.py /ours own-tree {ids}"
    );
    let mut run = bryo.command(["run", "--rm", "--cap-add", "ALL"]);
    run.args(["-v", &volumes[0], "-v", &volumes[1], &image, "sh", "-ec", &script]);
    let done = Done::of(&mut run);
    assert!(done.status.success(), "{done}");
    let (ours, hosts) = (answers(&done.stdout), answers(&done.stderr));
    let left_out = ours.values().filter(|answer| answer.starts_with(LEFT_OUT));
    println!("left out, for want of ids: {} cases", left_out.count());
    let one_id = if has_id_range() {
        &[]
    } else {
        DIFFERENT_WITH_ONE_ID
    };
    let different: Vec<_> = DIFFERENT.iter().chain(one_id).collect();
    let mut wrong = Vec::new();
    for (case, answer) in &ours {
        let host = *hosts.get(case).unwrap_or(&"nothing");
        let known = different.iter().find(|(different, _)| different == case);
        match known {
            None if host != *answer => wrong.push(format!("{case}\n  ours: {answer}\n  ext4: {host}")),
            Some((_, why)) if host == *answer && !answer.starts_with(LEFT_OUT) => {
                wrong.push(format!("{case} is alike now: take it off the list ({why})"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        ours.len() > 300 && ours.len() == hosts.len(),
        "{} cases",
        ours.len()
    );
    for (case, _) in different {
        assert!(ours.contains_key(case), "there is no case {case}");
    }
}

/// Answers by case.
fn answers(lines: &str) -> BTreeMap<&str, &str> {
    lines.lines().filter_map(|line| line.split_once(": ")).collect()
}
