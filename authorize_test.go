package countersign

import (
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// TestWhereDecided is the table of docs/flows/deciding.md.
func TestWhereDecided(t *testing.T) {
	const fresh, stale, gone = outageAfter, outageAfter + time.Second, bundleLife + time.Second
	for _, c := range []struct {
		local, last, can bool
		age              time.Duration
		here, unanswered bool
	}{
		{true, false, true, fresh, true, false},
		{true, true, true, fresh, true, true},
		{true, false, true, stale, false, false},
		{true, true, true, stale, true, true},
		{true, true, true, gone, false, false},
		{false, false, true, fresh, false, false},
		{false, true, true, fresh, false, true},
		{false, true, true, stale, false, true},
		{false, true, true, gone, false, false},
		{true, true, false, fresh, false, false}, // what is held does not say enough of the token
		{false, true, false, fresh, false, false},
	} {
		here, unanswered := whereDecided(jose.BundleAction{Local: c.local, Last: c.last}, c.can, c.age)
		if here != c.here || unanswered != c.unanswered {
			t.Errorf("%+v: here %v, unanswered %v", c, here, unanswered)
		}
	}
}

// TestLowest: a version that the feed says is too old is not decided by, and what an
// earlier epoch said counts for nothing.
func TestLowest(t *testing.T) {
	b := &bundle{wake: make(chan struct{}, 1), began: time.Now()}
	b.held.Store(&heldPolicies{epoch: 2, version: 5})
	for _, c := range []struct {
		epoch, version int64
		held, asked    bool
	}{
		{1, 99, true, false}, {2, 5, true, false}, {2, 4, true, false}, {2, 6, false, true}, {2, 3, false, false}, {3, 1, false, true}, {2, 5, false, false},
	} {
		b.heard(c.epoch, c.version)
		h, _ := b.current()
		asked := len(b.wake) > 0
		if asked {
			<-b.wake
		}
		if (h != nil) != c.held || asked != c.asked {
			t.Errorf("%+v: held %v, asked %v", c, h != nil, asked)
		}
	}
	b.held.Store(&heldPolicies{epoch: 3, version: 1})
	if h, _ := b.current(); h == nil {
		t.Error("what is new enough is not decided by")
	}
}
