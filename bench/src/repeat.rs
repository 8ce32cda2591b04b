//! `repeat`: prints the cases. `repeat CASE TURNS`: does one that often, and nothing else, to be counted from outside.

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool on a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let cases = wsray_bench::cases();
    match arguments.as_slice() {
        [] => {
            for case in &cases {
                println!("{} {}", case.name, case.bytes);
            }
            ExitCode::SUCCESS
        }
        [name, turns] => {
            let (Some(case), Ok(turns)) =
                (cases.iter().find(|case| case.name == *name), turns.parse::<u32>())
            else {
                eprintln!("repeat: no case {name}, or not a number: {turns}");
                return ExitCode::FAILURE;
            };
            let mut turn = case.prepare();
            for _ in 0..turns {
                turn();
            }
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: repeat [CASE TURNS]");
            ExitCode::FAILURE
        }
    }
}
