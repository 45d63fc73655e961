# cargo and rustc: a library with two programs and tests, built, built again for nothing, changed, tested, cleaned.
export HOME=$W CARGO_HOME=$W/home CARGO_NET_OFFLINE=true
cargo -q new --vcs none --lib tiny
cd tiny
mkdir src/bin
for n in $(seq 20); do
    printf '//! %s\npub fn f(n: u64) -> u64 { (0..n).map(|x| x * %s).sum() }\n#[test]\nfn works() { assert_eq!(f(3), %s); }\n' $n $n $((3 * n)) > src/m$n.rs
    echo "pub mod m$n;"
done > src/lib.rs
for bin in one two; do echo 'fn main() { println!("{}", tiny::m3::f(100) + tiny::m20::f(10)) }' > src/bin/$bin.rs; done
cargo build -q
target/debug/one
cargo build -v 2>&1 | grep -c Fresh
echo 'pub fn f(n: u64) -> u64 { n }' > src/m3.rs
cargo run -q --bin two
cargo test -q --lib | grep -o 'ok. .* passed'
cargo clean
ls
