package session_test

import (
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/session"
)

// TestUsable: a cookie acts until the first of its ends, to the instant.
func TestUsable(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		edit  func(*session.Session)
		after time.Duration
		want  bool
	}{
		"new":               {nil, 0, true},
		"just before idle":  {nil, session.IdleLifetime - 1, true},
		"idle":              {nil, session.IdleLifetime, false},
		"used":              {func(s *session.Session) { s.IdleUntil = start.Add(session.Lifetime * 2) }, session.Lifetime - 1, true},
		"used, at its end":  {func(s *session.Session) { s.IdleUntil = start.Add(session.Lifetime * 2) }, session.Lifetime, false},
		"signed out":        {func(s *session.Session) { s.SignedOutAt = start }, 0, false},
		"signed out later":  {func(s *session.Session) { s.SignedOutAt = start.Add(time.Hour) }, 0, false},
		"ended":             {func(s *session.Session) { s.Node.EndedAt = start }, 0, false},
		"frozen":            {func(s *session.Session) { s.Node.FrozenAt = start }, 0, false},
		"without lifetimes": {func(s *session.Session) { *s = session.Session{Node: lineage.Node{ID: "ses_x"}} }, 0, false},
	} {
		s := session.Session{CreatedAt: start, ExpiresAt: start.Add(session.Lifetime), IdleUntil: start.Add(session.IdleLifetime)}
		if tc.edit != nil {
			tc.edit(&s)
		}
		if got := s.Usable(start.Add(tc.after)); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if session.Lifetime > 12*time.Hour || session.IdleLifetime > session.Lifetime || session.TouchInterval >= session.IdleLifetime {
		t.Error("the lifetimes do not fit each other (SP 800-63B-4: at most 12 h)")
	}
}
