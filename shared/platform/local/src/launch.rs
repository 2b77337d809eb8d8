//! A [`Launch`] to a command line: what the replica is told through its arguments and its environment.
//!
//! Invariant: what a manifest cannot know on one machine (port, GPUs, our marks) overrides what it says.

use crate::procs::{INSTANCE_MARK, REPLICA_MARK};
use crate::supervisor::{Failure, Launch};
use platform::manifest::expand;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a replica's own commands (its program, its exec probes, its preStop) are run.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    shim: Vec<OsString>,
    vars: BTreeMap<String, String>,
    secrets: Vec<String>,
    working_dir: PathBuf,
}

impl Environment {
    /// For one replica of the instance.
    pub(crate) fn new(launch: &Launch, instance: &str, shim: &[OsString]) -> Self {
        let workload = &launch.workload;
        let mut vars = BTreeMap::from([
            ("PORT".to_owned(), launch.port.to_string()),
            (INSTANCE_MARK.to_owned(), instance.to_owned()),
            (REPLICA_MARK.to_owned(), launch.id.as_str().to_owned()),
        ]);
        if workload.gpus > 0 {
            let devices: Vec<String> = launch.gpus.iter().map(u32::to_string).collect();
            vars.insert("CUDA_VISIBLE_DEVICES".into(), devices.join(","));
        }
        let ours: Vec<String> = vars.keys().cloned().collect();
        for env in workload.env.iter().filter(|env| !ours.contains(&env.name)) {
            let value = expand(&env.value, |name| vars.get(name).map(String::as_str));
            vars.insert(env.name.clone(), value);
        }
        // Python would keep its output back until a buffer is full.
        vars.entry("PYTHONUNBUFFERED".into()).or_insert_with(|| "1".into());
        let secrets = workload
            .env
            .iter()
            .filter(|env| env.secret && !env.value.is_empty())
            .map(|env| vars.get(&env.name).unwrap_or(&env.value).clone())
            .collect();
        Self { shim: shim.to_vec(), vars, secrets, working_dir: workload.working_dir.clone() }
    }

    /// `argv` behind the shim, with nothing to read and nowhere to write; or why it can never run.
    pub(crate) fn command(&self, argv: &[String]) -> Result<Command, Failure> {
        let argv: Vec<String> =
            argv.iter().map(|arg| expand(arg, |name| self.vars.get(name).map(String::as_str))).collect();
        let never = |reason, message| Err(Failure { reason: Some(reason), message, permanent: true });
        let (Some(program), [shim, prefix @ ..]) = (argv.first(), self.shim.as_slice()) else {
            return never("NoCommand", "has no command".into());
        };
        if !self.working_dir.is_dir() {
            return never("NoWorkingDir", format!("cannot start: {} is no folder", self.working_dir.display()));
        }
        if !self.exists(program) {
            return never("CommandNotFound", format!("cannot start: there is no program {program:?}"));
        }
        let mut command = Command::new(shim);
        command
            .args(prefix)
            .arg(std::process::id().to_string())
            .args(&argv)
            .envs(&self.vars)
            .current_dir(&self.working_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }

    /// Whether `execvp` in the replica's environment will find `program`.
    fn exists(&self, program: &str) -> bool {
        if program.contains('/') {
            return is_executable(&self.working_dir.join(program));
        }
        let inherited = std::env::var_os("PATH");
        let path = self.vars.get("PATH").map(|path| OsStr::new(path).to_owned()).or(inherited);
        let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).any(|folder| is_executable(&self.working_dir.join(folder).join(program)))
    }

    /// `text` without the values that came from Secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
