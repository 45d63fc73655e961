//! Counts the words of its arguments.

fn main() {
    let text: Vec<String> = std::env::args().skip(1).collect();
    println!("{} words", words::count(&text.join(" ")));
}
