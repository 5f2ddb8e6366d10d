//! smoke
use hsu_master::*;
use std::time::Duration;
#[test]
fn smoke() {
    let master = Master::builder().module("m", || M).build().unwrap();
    master.add_worker(WorkerConfig::native("a", "m")).unwrap();
    master.add_worker(WorkerConfig::executable("b", "/bin/sleep").args(["100"])).unwrap();
    master.start_all().unwrap();
    for d in master.all_worker_diagnostics() {
        eprintln!("{d:#?}");
    }
    println!("{:?}", master.restart_worker("a", false));
    println!("{:?}", master.restart_worker("b", false));
    let r = master.shutdown();
    println!("{r:?}");
    assert!(master.wait_timeout(Duration::from_secs(1)).unwrap());
    println!("{:?}", master.start_worker("a"));
}
struct M;
impl WorkerModule for M {
    fn start(&mut self, _: &ModuleContext) -> ModuleResult {
        Ok(())
    }
    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("m", "1")
    }
}
