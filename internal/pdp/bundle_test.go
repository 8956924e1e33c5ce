package pdp

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
)

// TestBundleComposedOnce: enforcement points that ask at once wait for one composing, and
// none longer than it wants to.
func TestBundleComposedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		composed, release := 0, make(chan struct{})
		s := New(Config{
			Policies: func(context.Context) (*policy.Set, int64, error) { return policy.Builtin(), 1, nil },
			Rolling: func(context.Context) (bool, error) {
				composed++
				<-release
				return false, nil
			},
		})
		impatient, leave := context.WithCancel(t.Context())
		errs := make(chan error, 5)
		ask := func(ctx context.Context) {
			x, err := s.content(ctx, "https://deploy.example.com", time.Now())
			if err == nil && x.text == "" {
				t.Error("nothing was composed")
			}
			errs <- err
		}
		go ask(t.Context())
		synctest.Wait()
		for range 3 {
			go ask(t.Context())
		}
		go ask(impatient)
		synctest.Wait()
		leave()
		if err := <-errs; err != context.Canceled {
			t.Errorf("who left: %v", err)
		}
		close(release)
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if composed != 1 {
			t.Errorf("composed %d times", composed)
		}
	})
}
