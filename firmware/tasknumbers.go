package firmware

import (
	"maps"
	"slices"

	"github.com/privyseal/privyseal/firmware/envelope"
)

// taskID names a task: numbers are a distributor's own, and distributors an
// enterprise's own.
type taskID struct{ enterprise, distributor, task uint64 }

// takenTask is what the device knows of a task that it worked on.
type takenTask struct {
	request envelope.Hash
	until   int64 // the number may serve another request from then on
}

// taskNumbers are the tasks of the last TaskPeriod, in the order in which they
// were first worked on. Buckets are never written once they are full: a day of
// tasks is not copied for each of them.
type taskNumbers []taskBucket

type taskBucket struct {
	until int64 // the latest of them
	tasks map[taskID]takenTask
}

func (t taskNumbers) find(id taskID, now int64) (takenTask, bool) {
	for i := len(t) - 1; i >= 0; i-- { // the newest is asked for most
		if x, ok := t[i].tasks[id]; ok && now < x.until {
			return x, true
		}
	}
	return takenTask{}, false
}

// full reports whether no more numbers can be remembered. A bucket counts as
// full, whatever is in it.
func (t taskNumbers) full(now int64) bool { return len(t.fresh(now)) >= maxTasks/tasksInBucket }

// fresh is t without the buckets that are over.
func (t taskNumbers) fresh(now int64) taskNumbers {
	for len(t) > 0 && t[0].until <= now {
		t = t[1:]
	}
	return t
}

// with is t with one more, and without what is over.
func (t taskNumbers) with(id taskID, x takenTask, now int64) taskNumbers {
	if _, ok := t.find(id, now); ok {
		return t // a retransmission
	}
	out := slices.Clone(t.fresh(now))
	if n := len(out); n == 0 || len(out[n-1].tasks) >= tasksInBucket {
		out = append(out, taskBucket{tasks: map[taskID]takenTask{}})
	}
	last := &out[len(out)-1]
	last.tasks = maps.Clone(last.tasks)
	last.tasks[id], last.until = x, max(last.until, x.until)
	return out
}
