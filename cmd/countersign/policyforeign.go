package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/policy/replay/foreign"
)

// foreignFlags say what is read of somebody else's log, and what it does not say.
type foreignFlags struct {
	from, policies, assume string
	session, fresh         time.Duration
}

var assumed = map[string]assurance.Rung{"single": assurance.Single, "multi": assurance.Multi, "phr": assurance.Phishing, "phrh": assurance.Hardware}

// replayForeign tries policies on a log of nginx, Okta, Entra or Keycloak.
func (a *app) replayForeign(ctx context.Context, path string, f foreignFlags, top int) error {
	rung, ok := assumed[f.assume]
	if !ok || !slices.Contains(foreign.Formats, f.from) || f.session <= 0 || f.fresh < 0 || top < 0 {
		return usage("--from is one of %s, --assume one of single, multi, phr, phrh, and lengths of time are not negative.", strings.Join(foreign.Formats, ", "))
	}
	var from []string
	if f.policies != "" {
		from = []string{f.policies}
	}
	b, err := a.bundle(from)
	if err != nil {
		return err
	}
	in, size := a.in, int64(0)
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return usage("The log cannot be read: %v.", err)
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil {
			size = info.Size()
		}
		in = file
	}
	log, err := a.readForeign(f.from, in, size)
	if err != nil {
		return &failure{exit: exitError, code: "log_unreadable", message: "The log cannot be read: " + err.Error() + "."}
	}
	as := foreign.Assume{Rung: rung, Session: f.session}
	if f.fresh > 0 {
		as.Sensitive = assurance.Ask{Rung: assurance.Phishing, MaxAge: f.fresh}
	}
	t := replay.New(b.set)
	log.Try(t, as)
	if a.json {
		return a.document("policy.replay/v1", map[string]any{"policy": b.set.Version(), "report": t.Report(maxReplayRows), "log": log})
	}
	for _, bad := range log.Shown {
		a.say("%d: %s", bad.Line, clean(bad.Why))
	}
	if log.Bad > len(log.Shown) {
		a.say("… and %d more that cannot be read", log.Bad-len(log.Shown))
	}
	a.say("%d lines: %d of people who were let in, %d who were not, %d of nothing that is decided, %d that cannot be read.",
		log.Lines, log.Events, log.Failed, log.Skipped, log.Bad)
	return a.replayed(ctx, nil, t, b.set.Version(), top)
}

func (a *app) readForeign(format string, in io.Reader, size int64) (*foreign.Log, error) {
	bar := progress{console: &a.console}
	defer bar.end()
	return foreign.Read(format, in, func(n int64) {
		done := 0.0
		if size > 0 {
			done = float64(n) / float64(size)
		}
		bar.show(done, fmt.Sprintf("%d MB", n>>20))
	})
}
