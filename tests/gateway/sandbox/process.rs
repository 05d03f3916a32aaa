//! Child processes that cannot outlive the test process, and the folder of a test run.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Mutex, OnceLock};

/// Set to keep the folder with the nodes' data and logs.
const KEEP: &str = "WSGATEWAY_TEST_KEEP";

/// A running child. Dropping it kills it.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn start(mut command: Command, log: &Path, open_files_max: Option<u64>) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let parent = std::process::id() as libc::pid_t;
        // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have gone before the line above took effect.
                if libc::getppid() != parent {
                    libc::_exit(1);
                }
                if let Some(max) = open_files_max {
                    let limit = libc::rlimit { rlim_cur: max, rlim_max: max };
                    if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = spawn_from_lasting_thread(command)?;
        children().lock().unwrap().insert(child.id());
        Ok(Self { child })
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child was not reaped yet (that takes &mut), so its id is still its own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "signal {signal}: {}", io::Error::last_os_error());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the child is ours");
        if status.is_some() {
            children().lock().unwrap().remove(&self.child.id());
        }
        status
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        children().lock().unwrap().remove(&self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The parent-death signal is sent when the *thread* ends that started the child, and test threads end early.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = sync_channel::<Order>(16);
        let spawn_all = move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        };
        std::thread::Builder::new().name("spawner".into()).spawn(spawn_all).expect("a thread");
        orders
    });
    let (answer, child) = sync_channel(1);
    spawner.send((command, answer)).expect("the spawner never ends");
    child.recv().expect("the spawner answers")
}

/// Children that live in statics are never dropped: they are ended when the process exits.
fn children() -> &'static Mutex<BTreeSet<u32>> {
    static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    &CHILDREN
}

/// One temporary folder for everything that this test process writes; removed at its exit.
pub fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("wsgateway-test-").tempdir().expect("a temporary folder").keep();
        // SAFETY: registers a function that takes no arguments and does not unwind.
        unsafe { libc::atexit(end_children_and_remove_folder) };
        RUN_FOLDER.set(folder.clone()).expect("set once");
        folder
    })
}

static RUN_FOLDER: OnceLock<PathBuf> = OnceLock::new();

extern "C" fn end_children_and_remove_folder() {
    let Ok(mut children) = children().lock() else { return };
    for child in std::mem::take(&mut *children) {
        // SAFETY: only children that were not reaped are in the set.
        unsafe {
            libc::kill(child as libc::pid_t, libc::SIGKILL);
            libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0);
        }
    }
    let Some(folder) = RUN_FOLDER.get() else { return };
    if std::env::var_os(KEEP).is_some() {
        eprintln!("kept: {}", folder.display());
    } else {
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[test]
fn a_child_ends_with_its_owner_and_not_with_the_thread_that_started_it() {
    let log = run_folder().join("sleep.log");
    let start = move || {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::start(command, &log, Some(64)).expect("sleep starts")
    };
    let mut sleeper = std::thread::spawn(start).join().expect("the thread");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", sleeper.child.id())).expect("its limits");
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 64 ")), "{limits}");
    assert!(sleeper.exited().is_none(), "it outlives the thread");
    let folder = format!("/proc/{}", sleeper.child.id());
    drop(sleeper);
    assert!(!Path::new(&folder).exists(), "it ends with its owner");
}
