package notify

import (
	"sync"
	"time"
)

// perHour is how many messages about what may happen often one person gets in an
// hour: whoever makes it happen cannot fill their mailbox. What was left out stands
// on their account page.
const perHour = 20

// maxQuota is of how many persons it is remembered; beyond it everybody begins
// again.
const maxQuota = 10000

// quota counts messages to persons. It is of this process: after a restart it
// begins again.
type quota struct {
	mu   sync.Mutex
	hour int64
	sent map[string]int
}

func (q *quota) take(person string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := now.Unix() / 3600; h != q.hour || len(q.sent) >= maxQuota {
		q.hour, q.sent = h, map[string]int{}
	}
	q.sent[person]++
	return q.sent[person] <= perHour
}
