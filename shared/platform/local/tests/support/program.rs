//! `program __exec …` is the exec shim; `program run STATE-DIR PATH REVISION COUNT` supervises until it is killed.

use domain::{Replicas, ScaleTargetRef};
use platform::Platform as _;
use platform_local::{DEFAULT_PORTS, Inputs, LocalPlatform, Options, Output, exec_shim};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

#[expect(clippy::print_stderr, reason = "the shim's only way to say why")]
fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let done = match args.next() {
        Some(verb) if verb == "__exec" => match exec_shim::run(args) {
            Ok(never) => match never {},
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(error.exit_code());
            }
        },
        Some(verb) if verb == "run" => supervise(&program, &args.collect::<Vec<_>>()),
        Some(_) | None => Err("expected __exec or run".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::disallowed_methods, reason = "the runtime's Tasks belong to the programs")]
async fn supervise(program: &OsString, args: &[OsString]) -> Result<(), Box<dyn std::error::Error>> {
    let [state_dir, path, revision, count] = args else { return Err("expected four arguments".into()) };
    let options = Options {
        inputs: Inputs { manifests: vec![path.into()], ..Inputs::default() },
        state_dir: state_dir.into(),
        images: BTreeMap::new(),
        shim: vec![program.clone(), "__exec".into()],
        ports: DEFAULT_PORTS,
        output: Output::None,
        gpus: Some(0),
        autoscalers: Vec::new(),
        activators: Vec::new(),
        wall_clock: domain::WallTime::default,
    };
    let spawn = Arc::new(|_: &'static str, work| drop(tokio::spawn(work)));
    let platform = LocalPlatform::start(options, spawn, Arc::new(|_| ())).await?;
    let target = ScaleTargetRef::deployment("default", &revision.to_string_lossy());
    let count = Replicas::new(count.to_string_lossy().parse()?);
    platform.scale(&target, Replicas::ZERO, count, &[]).await?;
    std::future::pending().await
}
