//! Python virtual environments under target/test-env, each made from one list of pinned packages.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::apt;
use crate::cargo::{succeed, test_env};

/// What one virtual environment is to hold.
pub struct Venv {
    /// The folder's name under target/test-env.
    pub name: &'static str,
    /// Pinned packages in pip's requirements format. A change here makes the environment anew.
    pub requirements: &'static str,
    /// Modules that must import before the environment counts as ready.
    pub modules: &'static [&'static str],
}

impl Venv {
    /// Makes the environment ready and returns its folder of programs.
    pub fn prepare(&self) -> Result<PathBuf> {
        std::fs::create_dir_all(test_env())?;
        // Two runs in one checkout would otherwise build the same folder at once.
        let lock = File::create(test_env().join("lock"))?;
        lock.lock().context("cannot lock the test environment")?;
        if !self.is_ready() {
            self.create().with_context(|| format!("cannot make the Python environment `{}`", self.name))?;
        }
        Ok(self.dir().join("bin"))
    }

    fn dir(&self) -> PathBuf {
        test_env().join(self.name)
    }

    fn stamp(&self) -> PathBuf {
        self.dir().join("installed.txt")
    }

    fn is_ready(&self) -> bool {
        let stamped = std::fs::read_to_string(self.stamp()).is_ok_and(|text| text == self.requirements);
        // An upgraded system Python leaves an environment whose packages no longer import.
        stamped && self.imports().is_ok_and(|output| output.status.success())
    }

    fn imports(&self) -> std::io::Result<std::process::Output> {
        let program: String = self.modules.iter().map(|module| format!("import {module}\n")).collect();
        Command::new(self.dir().join("bin/python")).args(["-c", &program]).output()
    }

    fn create(&self) -> Result<()> {
        let python = system_python()?;
        println!("making the Python environment `{}`", self.name);
        if self.dir().exists() {
            std::fs::remove_dir_all(self.dir())?;
        }
        succeed(Command::new(python).args(["-m", "venv"]).arg(self.dir()))?;
        let list = self.dir().join("requirements.txt");
        std::fs::write(&list, self.requirements)?;
        let mut pip = Command::new(self.dir().join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(list);
        succeed(&mut pip)?;
        let imports = self.imports()?;
        ensure!(imports.status.success(), "{}", String::from_utf8_lossy(&imports.stderr));
        std::fs::write(self.stamp(), self.requirements)?;
        Ok(())
    }
}

/// A Python that can make virtual environments, installed first when it is missing and may be.
fn system_python() -> Result<&'static str> {
    if can_make_venvs() || (apt::install(&["python3", "python3-venv"]) && can_make_venvs()) {
        return Ok("python3");
    }
    bail!(
        "`python3` with its `venv` and `ensurepip` modules was not found.\n\
         Install Python 3.11 or newer with them (Debian: apt-get install python3 python3-venv)."
    )
}

fn can_make_venvs() -> bool {
    let probe = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    probe.is_ok_and(|output| output.status.success())
}
