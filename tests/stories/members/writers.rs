//! Writers that go on whatever happens to the nodes, and remember what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use client::{Client, v1};
use harness::eventually;
use tokio::task::JoinHandle;

use super::WITHIN;

/// Writers at work.
pub struct Writers {
    tasks: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    written: Mutex<Vec<String>>,
}

impl Writers {
    /// Sets one writer to work for each client.
    pub fn start(clients: &[Client]) -> Self {
        let shared = Arc::new(Shared::default());
        let write = |(number, client): (usize, &Client)| {
            tokio::spawn(write(number, client.clone(), Arc::clone(&shared)))
        };
        Self { tasks: clients.iter().enumerate().map(write).collect(), shared }
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn have_written(&self, more: usize) {
        let begun = self.count();
        eventually(format!("{more} more writes"), WITHIN, async || {
            let count = self.count() - begun;
            if count >= more { Ok(()) } else { Err(count) }
        })
        .await;
    }

    /// Ends the writers, and gives the names of what was acknowledged.
    pub async fn stop(self) -> Vec<String> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.shared.written.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.shared.written.lock().unwrap().len()
    }
}

async fn write(writer: usize, client: Client, shared: Arc<Shared>) {
    let mut number = 0_u64;
    while !shared.stopping.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("w{writer}-{number}");
        let request = v1::ApplyRequest { resources: vec![identity(&name)], dry_run: false };
        // What was not acknowledged may be there or not: nothing was promised.
        if client.apply(request).await.is_ok() {
            shared.written.lock().unwrap().push(name);
        }
    }
}

fn identity(name: &str) -> v1::Resource {
    let identity = v1::Identity {
        name: name.to_owned(),
        owner: "team-members".into(),
        purpose: "to be there at the end".into(),
        workload: "writers".into(),
        environment: "test".into(),
        review_by_ms: 4_102_444_800_000,
    };
    v1::Resource { kind: Some(v1::resource::Kind::Identity(identity)) }
}
