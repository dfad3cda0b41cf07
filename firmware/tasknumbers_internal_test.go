package firmware

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// TestTaskNumbersAgainstMap: what is remembered is what a map would remember
// that never forgets, as long as it counts; and earlier values are not changed
// by later ones, since a record that is not durable leaves nothing behind.
func TestTaskNumbersAgainstMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		const life = 1000
		now := int64(1)
		all := map[taskID]takenTask{}
		var numbers taskNumbers
		for range rapid.IntRange(1, 900).Draw(r, "tasks") {
			now += rapid.Int64Range(0, 5).Draw(r, "pause")
			id := taskID{rapid.Uint64Range(1, 2).Draw(r, "enterprise"), 1, rapid.Uint64Range(1, 2000).Draw(r, "task")}
			before := numbers
			old, taken := all[id]
			taken = taken && now < old.until
			if got, ok := before.find(id, now); ok != taken || ok && got != old {
				r.Fatalf("at %d: %v is taken %v, found %v", now, id, taken, ok)
			}
			x := takenTask{envelope.Hash{byte(now), byte(now >> 8)}, now + life}
			numbers = before.with(id, x, now)
			if !taken {
				all[id] = x
				if _, ok := before.find(id, now); ok {
					r.Fatal("the numbers before were changed")
				}
			}
		}
		kept := 0
		for _, b := range numbers.fresh(now) { // a retransmission drops nothing
			kept += len(b.tasks)
		}
		live := 0
		for id, x := range all {
			if now < x.until {
				live++
				if _, ok := numbers.find(id, now); !ok {
					r.Fatalf("%v was forgotten", id)
				}
			}
		}
		if kept > live+tasksInBucket {
			r.Fatalf("%d are kept, %d count", kept, live)
		}
	})
}

// TestTaskNumbersBounded: a flood is refused, not remembered, and passes.
func TestTaskNumbersBounded(t *testing.T) {
	numbers := make(taskNumbers, maxTasks/tasksInBucket)
	for i := range numbers {
		numbers[i] = taskBucket{until: int64(10 + i), tasks: map[taskID]takenTask{}}
	}
	if !numbers.full(9) || numbers.full(10) {
		t.Error("full at the wrong time")
	}
	if n := len(numbers.with(taskID{1, 1, 1}, takenTask{until: 1e6}, 10)); n >= len(numbers) {
		t.Errorf("%d buckets", n)
	}
}
