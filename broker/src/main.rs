//! The `tollway` binary.

fn main() -> std::process::ExitCode {
    tollway::cli::main()
}
