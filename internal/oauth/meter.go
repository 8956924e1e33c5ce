package oauth

import (
	"sync"
	"time"
)

// maxMetered is how many names a meter tells apart.
const maxMetered = 8192

// meter lets each name do something so often: a burst at once, then one in each
// interval. It is in memory, of this process, and for callers that nobody knows:
// what they may cost has a bound, and who is refused may come back.
type meter struct {
	mu    sync.Mutex
	names map[string]time.Time // until when what was taken has come back
}

// take reports whether name may do it once more now.
func (m *meter) take(name string, now time.Time, burst int, every time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil {
		m.names = map[string]time.Time{}
	}
	if _, is := m.names[name]; !is && len(m.names) >= maxMetered {
		for k, until := range m.names {
			if !until.After(now) {
				delete(m.names, k)
			}
		}
		if len(m.names) >= maxMetered {
			return false
		}
	}
	until := m.names[name]
	if until.Before(now) {
		until = now
	}
	if until = until.Add(every); until.Sub(now) > time.Duration(burst)*every {
		return false
	}
	m.names[name] = until
	return true
}
