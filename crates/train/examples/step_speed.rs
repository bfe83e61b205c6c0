//! Whole training steps of ResNet-20 with ASAM, float32 and bfloat16 in turns: images a second.

use flatmin_train::{TrainBench, TrainBenchOptions};
use serde_json::json;

fn main() {
    flatmin_torch_ext::configure();
    flatmin_torch_ext::set_num_threads(2);
    flatmin_torch_ext::set_flush_denormal(true);
    let mut benches = ["float32", "bfloat16"].map(|dtype| {
        let options = json!({
            "model": "resnet20", "batch": 128, "dtype": dtype,
            "optimizer": {"base": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4},
                "sharpness": {"rho": 0.5, "eta": 0.01, "scale": "element"}},
        });
        let options: TrainBenchOptions = serde_json::from_value(options).unwrap();
        TrainBench::new(options).unwrap()
    });
    let mut times = [vec![], vec![]];
    for round in 0..6 {
        for (bench, times) in benches.iter_mut().zip(&mut times) {
            let run = bench.run(5).unwrap();
            if round > 0 {
                times.extend(run.step_ms);
            }
        }
    }
    for (name, mut times) in ["float32", "bfloat16"].into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let [low, middle] = [times[0], times[times.len() / 2]];
        println!(
            "{name}: median {middle:.1} ms ({:.0} img/s), fastest {low:.1} ms ({:.0} img/s)",
            128e3 / middle,
            128e3 / low
        );
    }
}
