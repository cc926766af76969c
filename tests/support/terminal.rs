//! A terminal that a program runs in, as a person's would be.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::eventually;

pub(crate) struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs a command as the leader of a session in a new terminal of this size.
    pub(crate) fn run(words: &[OsString], rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname(&master, Vec::new())
            .expect("ptsname")
            .into_string()
            .expect("UTF-8");
        let master = File::from(master);
        set_size(&master, rows, columns);
        let open = || {
            let file = File::options().read(true).write(true).open(&path);
            Stdio::from(file.expect("the terminal's other side"))
        };
        // setsid makes it the session's terminal; without that nobody is told of a new size.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .args(words)
            .stdin(open())
            .stdout(open())
            .stderr(open());
        let child = command.spawn().expect("setsid of util-linux");
        drop(command);
        let seen = Arc::new(Mutex::new(String::new()));
        read_all(master.try_clone().expect("a descriptor"), seen.clone());
        Self {
            master,
            child,
            seen,
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("the terminal takes it");
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.master, rows, columns);
    }

    /// Everything shown so far.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().expect("no reader panicked").clone()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        eventually(
            &format!("{text:?} on the terminal, which shows {:?}", self.seen()),
            || self.seen().contains(text).then_some(()),
        );
    }

    /// Waits for the end of the command, and gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        eventually("the end of the command in the terminal", || {
            self.child.try_wait().expect("a child")
        })
        .code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn set_size(master: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).expect("a terminal has a size");
}

fn read_all(mut master: File, seen: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The end of the other side is an error here.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            seen.lock()
                .expect("no reader panicked")
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
}
