//! How do rules become a program for the kernel? Compiled by crate seccompiler; this file is also part of `build.rs`,
//! which compiles the default profile.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Rules for system calls, in libseccomp's terms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    /// For calls that no rule names.
    pub(super) otherwise: SeccompAction,
    pub(super) rules: Vec<Rule>,
}

/// What becomes of a call with such arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) action: SeccompAction,
    /// All must hold; those on one argument are alternatives (runc's reading of the runtime spec).
    pub(super) arguments: Vec<Argument>,
}

/// A condition on an argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Argument {
    pub(super) index: u8,
    pub(super) operator: SeccompCmpOp,
    pub(super) value: u64,
}

/// Instructions of 8 bytes each in the machine's byte order, as seccomp(2) wants them: code, jt, jf, k.
pub(super) type Program = Vec<u8>;

/// Compiles to programs that are installed one after the other. The kernel runs all and takes the strictest answer
/// (seccomp(2)); that is how one call can be refused in one way and another in another: seccompiler knows two actions a
/// program.
///
/// Calls newer than `arch`'s table are ENOSYS unless the filter allows what it does not name: libraries then use the older
/// call, where EPERM would make them fail (runc and libseccomp learned this with faccessat2 and clone3).
pub(super) fn compile(filter: &Filter, arch: TargetArch) -> Result<Vec<Program>, String> {
    let allow = SeccompAction::Allow;
    let mut programs = Vec::new();
    if filter.otherwise != allow {
        let named = |rule: &&Rule| rule.action != filter.otherwise;
        programs.push(program(
            filter.rules.iter().filter(named),
            &filter.otherwise,
            &allow,
            arch,
        )?);
    }
    let mut done = vec![filter.otherwise.clone(), allow.clone()];
    for rule in &filter.rules {
        if !done.contains(&rule.action) {
            let same = filter.rules.iter().filter(|other| other.action == rule.action);
            programs.push(program(same, &allow, &rule.action, arch)?);
            done.push(rule.action.clone());
        }
    }
    if filter.otherwise != allow {
        programs.push(unknown_is_enosys(arch));
    }
    Ok(programs)
}

fn program<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    otherwise: &SeccompAction,
    action: &SeccompAction,
    arch: TargetArch,
) -> Result<Program, String> {
    let mut by_number: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // A call that is named without conditions needs none of those that others put on it.
    let mut plain = BTreeSet::new();
    for rule in rules {
        let Some(number) = number(&rule.name, arch) else {
            continue;
        }; // another machine's
        if rule.arguments.is_empty() {
            plain.insert(number);
        } else {
            let alternatives = by_number.entry(number).or_default();
            alternatives.extend(conditions(&rule.arguments)?);
        }
    }
    for number in &plain {
        by_number.remove(number);
    }
    let filter = SeccompFilter::new(by_number, otherwise.clone(), action.clone(), arch);
    let others: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error| error.to_string())?;
    let others = others
        .iter()
        .map(|step| instruction(step.code, step.jt, step.jf, step.k));
    Ok(runs(&plain, action, arch)
        .into_iter()
        .chain(others)
        .flatten()
        .collect())
}

/// Answers calls of these numbers with `action`, and passes all others on to the instructions that follow:
///
/// `ld [arch]; jeq ARCH, 1, 0; ja others; ld [nr]`, then for each run of numbers `jge FIRST, 0, 2; jgt LAST, 1, 0; ret ACTION`
///
/// seccompiler takes five instructions for each number, one after the other. At each start the kernel compiles them and
/// tries the program on all numbers, to know which are always allowed: with 1,607 instructions 0.6 ms, with these 0.1.
fn runs(numbers: &BTreeSet<i64>, action: &SeccompAction, arch: TargetArch) -> Vec<[u8; 8]> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers.iter().filter_map(|number| u32::try_from(*number).ok()) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let mut steps = vec![
        instruction(bpf::LOAD, 0, 0, bpf::ARCH),
        instruction(bpf::JUMP_EQUAL, 1, 0, audit_arch(arch)),
        instruction(bpf::JUMP, 0, 0, 1 + 3 * runs.len() as u32),
        instruction(bpf::LOAD, 0, 0, bpf::NUMBER),
    ];
    for (first, last) in runs {
        steps.extend([
            instruction(bpf::JUMP_NOT_BELOW, 0, 2, first),
            instruction(bpf::JUMP_ABOVE, 1, 0, last),
            instruction(bpf::RETURN, 0, 0, action.clone().into()),
        ]);
    }
    steps
}

/// Instructions of linux/filter.h, and where linux/seccomp.h puts what they look at.
pub(super) mod bpf {
    pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    pub(crate) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
    pub(crate) const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    pub(crate) const JUMP_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    pub(crate) const JUMP_NOT_BELOW: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    pub(crate) const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    pub(crate) const NUMBER: u32 = 0;
    pub(crate) const ARCH: u32 = 4;
}

/// AUDIT_ARCH_* of linux/audit.h.
pub(super) fn audit_arch(arch: TargetArch) -> u32 {
    match arch {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => 0xc000_00f3,
    }
}

fn conditions(arguments: &[Argument]) -> Result<Vec<SeccompRule>, String> {
    let condition = |argument: &Argument| {
        let Argument {
            index,
            operator,
            value,
        } = argument.clone();
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value)
    };
    let rule = |arguments: &[Argument]| {
        let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>();
        conditions
            .and_then(SeccompRule::new)
            .map_err(|error| error.to_string())
    };
    let repeated = arguments
        .iter()
        .enumerate()
        .any(|(i, a)| arguments.iter().skip(i + 1).any(|b| a.index == b.index));
    if repeated {
        arguments
            .iter()
            .map(|argument| rule(std::slice::from_ref(argument)))
            .collect()
    } else {
        Ok(vec![rule(arguments)?])
    }
}

/// `ld [nr]; jgt LAST → ret ERRNO(ENOSYS); ret ALLOW` (linux/filter.h, linux/seccomp.h). Of two programs that answer
/// ERRNO, the one installed last decides the number.
fn unknown_is_enosys(arch: TargetArch) -> Program {
    const ERRNO_ENOSYS: u32 = 0x0005_0000 | 38;
    const ALLOW: u32 = 0x7fff_0000;
    [
        instruction(bpf::LOAD, 0, 0, bpf::NUMBER),
        instruction(bpf::JUMP_ABOVE, 0, 1, last_known(arch)),
        instruction(bpf::RETURN, 0, 0, ERRNO_ENOSYS),
        instruction(bpf::RETURN, 0, 0, ALLOW),
    ]
    .concat()
}

pub(super) fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> [u8; 8] {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, jt, jf, k0, k1, k2, k3]
}

pub(super) fn number(name: &str, arch: TargetArch) -> Option<i64> {
    match arch {
        TargetArch::x86_64 => syscalls::x86_64::Sysno::from_str(name)
            .ok()
            .map(|call| i64::from(call.id())),
        TargetArch::aarch64 => syscalls::aarch64::Sysno::from_str(name)
            .ok()
            .map(|call| i64::from(call.id())),
        TargetArch::riscv64 => None,
    }
}

fn last_known(arch: TargetArch) -> u32 {
    match arch {
        TargetArch::x86_64 => syscalls::x86_64::Sysno::last().id() as u32,
        TargetArch::aarch64 | TargetArch::riscv64 => syscalls::aarch64::Sysno::last().id() as u32,
    }
}
