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
            .env("PATH", self.path())
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
        std::env::split_paths(&self.path()).any(|folder| is_executable(&self.working_dir.join(folder).join(program)))
    }

    /// The replica's PATH: the manifest's or our own, behind the folder of our own programs, so that what ships with us is
    /// found without being installed.
    fn path(&self) -> OsString {
        let path = self.vars.get("PATH").map(|path| OsStr::new(path).to_owned()).or_else(|| std::env::var_os("PATH"));
        let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
        let own = self.shim.first().and_then(|shim| Path::new(shim).parent()).map(Path::to_owned);
        std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap_or(path)
    }

    /// `text` without the values that came from Secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{EndpointId, Replicas, RevisionId};
    use platform::manifest::{EnvVar, Workload};
    use std::sync::Arc;
    use std::time::Duration;

    fn environment(env: &[(&str, &str, bool)], gpus: &[u32]) -> Environment {
        let var = |(name, value, secret): &(&str, &str, bool)| EnvVar {
            name: (*name).into(),
            value: (*value).into(),
            secret: *secret,
        };
        let workload = Workload {
            id: RevisionId::new("default", "app"),
            replicas: Replicas::ONE,
            command: vec!["serve".into()],
            env: env.iter().map(var).collect(),
            working_dir: "/".into(),
            port: None,
            readiness: None,
            startup: None,
            liveness: None,
            pre_stop: None,
            termination_grace: Duration::from_secs(30),
            gpus: u32::try_from(gpus.len()).unwrap(),
        };
        let (id, workload) = (EndpointId::new("app-0-1-1"), Arc::new(workload));
        let launch = Launch { id, slot: 0, port: 20_000, gpus: gpus.to_vec(), workload };
        Environment::new(&launch, "instance", &["/shim".into(), "__exec".into()])
    }

    fn argv(command: &Command) -> Vec<&str> {
        command.get_args().filter_map(OsStr::to_str).collect()
    }

    #[test]
    fn what_the_machine_knows_overrides_the_manifest() {
        let given = [("PORT", "8000", false), ("A", "a$(PORT)", false), ("B", "$(A)-$(C)", false), ("C", "c", false)];
        let environment = environment(&given, &[2, 3]);
        let var = |name: &str| environment.vars.get(name).map(String::as_str);
        assert_eq!(var("PORT"), Some("20000"));
        assert_eq!(var("B"), Some("a20000-$(C)"), "only what stands before it is known");
        assert_eq!(var("CUDA_VISIBLE_DEVICES"), Some("2,3"));
        assert_eq!((var(INSTANCE_MARK), var(REPLICA_MARK)), (Some("instance"), Some("app-0-1-1")));
        assert_eq!(var("PYTHONUNBUFFERED"), Some("1"));
    }

    #[test]
    fn what_the_manifest_says_stands_otherwise() {
        let given = environment(&[("PYTHONUNBUFFERED", "", false), ("CUDA_VISIBLE_DEVICES", "5", false)], &[]);
        assert_eq!(given.vars["PYTHONUNBUFFERED"], "");
        assert_eq!(given.vars["CUDA_VISIBLE_DEVICES"], "5");
    }

    #[test]
    fn the_command_stands_behind_the_shim() {
        let environment = environment(&[], &[]);
        let command = environment.command(&["/bin/sh".into(), "--port=$(PORT)".into()]).unwrap();
        assert_eq!(command.get_program(), "/shim");
        let own_pid = std::process::id().to_string();
        assert_eq!(argv(&command), ["__exec", &own_pid, "/bin/sh", "--port=20000"]);
    }

    #[test]
    fn what_can_never_run_is_said_before_it_is_tried() {
        let mut environment = environment(&[("PATH", "/nowhere:/bin", false)], &[]);
        let reason = |environment: &Environment, argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
            environment.command(&argv).err().map(|failure| (failure.reason.unwrap_or_default(), failure.permanent))
        };
        assert_eq!(reason(&environment, &["sh"]), None);
        assert_eq!(reason(&environment, &["bin/sh"]), None, "from the working directory");
        assert_eq!(reason(&environment, &[]), Some(("NoCommand", true)));
        for missing in ["no-such-program", "/etc/passwd", "/bin", "./sh"] {
            assert_eq!(reason(&environment, &[missing]), Some(("CommandNotFound", true)), "{missing}");
        }
        environment.working_dir = "/no/such/folder".into();
        assert_eq!(reason(&environment, &["sh"]), Some(("NoWorkingDir", true)));
    }

    #[test]
    fn secrets_are_taken_out_of_what_is_shown() {
        let environment = environment(&[("KEY", "xyzzy", true), ("NAME", "bob", false), ("EMPTY", "", true)], &[]);
        assert_eq!(environment.redact("bob: bad key xyzzy"), "bob: bad key ***");
    }
}
