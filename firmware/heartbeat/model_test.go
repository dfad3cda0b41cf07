package heartbeat

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	modelSteps = flag.Int("model.steps", 0, "steps of the model test; 0: as many as fit here")
	modelSeed  = flag.Uint64("model.seed", 1, "seed of the model test")
	modelRun   = flag.Int("model.run", -1, "only this run of the model test")
)

// TestModel drives devices, copies of them, sources and a hostile network by
// random schedules, against the reference. Each divergence names seed, run and
// step, and is found again with
//
//	go test ./firmware/heartbeat -run TestModel -model.seed S -model.run R
func TestModel(t *testing.T) {
	steps := *modelSteps
	if steps == 0 {
		steps = 60_000
		if testing.Short() {
			steps = 20_000
		}
	}
	began := time.Now()
	var sets [2][]*setting
	done := 0
	for run := 0; done < steps; run++ {
		rng := rand.New(rand.NewPCG(*modelSeed, uint64(run)))
		m := mode{calm: run%4 == 1, liars: run%3 == 0, busy: run%4 == 2, steps: 2000}
		switch {
		case run%8 == 3 || run%8 == 5:
			m.crypto, m.steps = true, 150
		case run%16 == 9: // long enough for a series to end
			m.steps = 12_000
		}
		kind := 0
		if m.calm {
			kind = 1
		}
		// A system serves many runs: making one is dear.
		if len(sets[kind]) <= run/8 && len(sets[kind]) < 24 {
			sets[kind] = append(sets[kind], newSetting(t, rand.New(rand.NewPCG(*modelSeed, uint64(1000*kind+len(sets[kind])))), m.calm))
		}
		set := sets[kind][rng.IntN(len(sets[kind]))]
		if *modelRun >= 0 && run != *modelRun {
			if run > *modelRun {
				break
			}
			continue
		}
		w := newWorld(t, fmt.Sprintf("seed %d, run %d, after %d steps before it (%+v)", *modelSeed, run, done, m), rng, set, m)
		w.run()
		done += m.steps
	}
	t.Logf("model: %d steps without a divergence in %v", done, time.Since(began).Round(time.Millisecond))
}
