#[test]
fn dbg() {
    for f in std::env::var("F").unwrap().split(',') {
        let (n, p) = f.split_once('=').unwrap();
        let t = fuzz::TARGETS.iter().find(|x| x.0 == n).unwrap().1;
        println!("{f}");
        t(&std::fs::read(p).unwrap());
    }
}
