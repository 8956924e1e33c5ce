package server

import (
	"context"
	"errors"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
)

// SetupLink makes a single-use setup link; earlier ones stop working (mechanisms
// I1). kind is who asks: the server at its start, or the operator.
func (s *State) SetupLink(ctx context.Context, kind string) (string, error) {
	put, link := account.NewSetupLink(s.Config.Issuer, s.now())
	_, err := s.Do.Do(ctx, act.Intent{Action: policy.SetupIssue, Kind: audit.SetupOffered, Refs: act.Refs{Kind: kind}, Changes: changes(put)})
	return link, err
}

// RecoverAdmin makes an invitation that makes an administrator, at the word of
// local root: loud, and in the log (mechanisms I3).
func (s *State) RecoverAdmin(ctx context.Context, username string) (string, error) {
	username, err := account.CheckUsername(username)
	if err != nil {
		return "", err
	}
	g, err := s.Store.GroupByName(ctx, group.Administrators)
	if err != nil {
		return "", err
	}
	inv := account.Invitation{ID: id.New(id.Invitation), Name: username, Username: username, Groups: []string{g.ID}}
	put, link := account.NewInvitation(s.Config.Issuer, inv, s.now())
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.AdminRecover, Kind: audit.AdminRecovered, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{put},
				Parts:   []audit.Part{{Person: inv.PersonID(), Body: map[string]any{"name": username}}}, // theirs, and erased with them
			}, nil
		},
	})
	return link, err
}

// Export gives the numbered records from a number on, oldest first, each with what
// its act took away: what replaying it over a restored backup needs (mechanisms I11).
func (s *State) Export(ctx context.Context, from uint64, fn func(audit.Line, []store.Taken) error) error {
	names := s.namer(ctx)
	const batch = 500
	for {
		var rows []audit.Row
		var nums []uint64
		err := s.Store.Records(ctx, from, func(seq uint64, row audit.Row) error {
			if len(rows) == batch {
				return errEnough
			}
			rows, nums = append(rows, row), append(nums, seq)
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		ids := make([]string, len(rows))
		for i, row := range rows {
			ids[i] = row.ID
		}
		taken, err := s.Store.TakenBy(ctx, ids)
		if err != nil {
			return err
		}
		for i, row := range rows {
			l, err := audit.Read(ctx, row, int64(nums[i]), s.Names, names)
			if err != nil {
				return err
			}
			if err := fn(l, taken[row.ID]); err != nil {
				return err
			}
			from = nums[i] + 1
		}
		if len(rows) < batch {
			return nil
		}
	}
}

// errEnough stops a read of rows after a batch: names are looked up between
// batches, not inside one.
var errEnough = errors.New("enough rows")
