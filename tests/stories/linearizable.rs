//! Whatever happens to the nodes and to the network between them, no acknowledged write is lost and no read is stale.

use std::path::Path;

use harness::chaos::{self, Plan};
use harness::nemesis::Fault;

/// The plan is the same in every run; `cargo xtask chaos` draws others.
const SEED: u64 = 20_261;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_operations_under_faults_are_linearizable() {
    let plan = Plan::short(SEED);
    let report = chaos::run(plan.clone()).await;
    println!("{report}\n{}", report.log.join("\n"));
    if !report.is_good() {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linearizable");
        let written = report.write_findings(&folder).unwrap();
        panic!("{}: see {written:?}", report.verdict());
    }
    assert!(report.recording.counts.answered >= plan.operations.max(50_000), "{report}");
    for fault in Fault::ALL {
        assert!(report.faults.contains_key(&fault), "no {fault}: {report}");
    }
}
