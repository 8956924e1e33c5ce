package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// replayPage is how many records one request looks at.
const replayPage = 2000

// maxReplayRows is how many people's days a report in JSON names.
const maxReplayRows = 10_000

func (a *app) policyReplay() *cobra.Command {
	var since time.Duration
	var until string
	var top int
	var other foreignFlags
	c := &cobra.Command{
		Use:   "replay DIR | --from FORMAT FILE",
		Short: "Try the policies in a directory on what was decided before",
		Long: `Decide again, by the policies in DIR, what the server decided in the last days, and
say who would be asked for a sign-in, refused, or newly allowed, each day. Nothing
changes. A sign-in that would be asked for counts once: it is taken to be given, and
to count on in its session.
The server tells what was decided only to who may, and records that it did. The
policies stay here.
With --from, FILE is a log of nginx (combined), Okta (System Log), Entra (sign-ins) or
Keycloak (events), - being standard input: it says what the default set, or
--policies, would have asked of the same people. No server is needed and nothing
leaves this computer. Of a sign-in of which the log does not say how, --assume says
it; a write in an access log is taken to need a passkey of --fresh.`,
		Example: "  countersign policy replay ./policies --since 168h\n  countersign policy replay --from nginx /var/log/nginx/access.log",
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.DurationVar(&since, "since", 7*24*time.Hour, "how far back to begin")
	f.StringVar(&until, "until", "", "when to end, as 2026-11-02T15:04:05Z; now if left out")
	f.IntVar(&top, "top", 20, "how many people's days to show")
	f.StringVar(&other.from, "from", "", "the format of a log of somebody else's: nginx, okta, entra, keycloak")
	f.StringVar(&other.policies, "policies", "", "with --from: directory of policies; the default set if left out")
	f.StringVar(&other.assume, "assume", "single", "with --from: what a sign-in is that does not say how: single, multi, phr, phrh")
	f.DurationVar(&other.session, "session", 12*time.Hour, "with --from: how long somebody stays signed in")
	f.DurationVar(&other.fresh, "fresh", 15*time.Minute, "with --from: how old a passkey's sign-in may be for a write; 0: writes need nothing more")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if other.from != "" {
			return a.replayForeign(ctx, args[0], other, top)
		}
		b, err := a.bundle(args)
		if err != nil {
			return err
		}
		end := a.now().UTC()
		if until != "" {
			if end, err = time.Parse(time.RFC3339, until); err != nil {
				return usage("%q is no time, such as 2026-11-02T15:04:05Z.", until)
			}
		}
		if since <= 0 || top < 0 {
			return usage("--since is a length of time such as 168h, and --top not negative.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		t := replay.New(b.set)
		if err := x.replay(ctx, t.AddPage, b.set.Version(), end.Add(-since), end); err != nil {
			return err
		}
		return a.replayed(ctx, x, t, b.set.Version(), top)
	})
	return c
}

// replay reads what was decided, page by page, and has it decided again.
func (x *api) replay(ctx context.Context, add func(*replay.Decisions) (ok bool), hash string, from, until time.Time) error {
	bar := progress{console: &x.app.console}
	defer bar.end()
	for after, read := "", 0; ; {
		q := url.Values{
			"from": {from.Format(time.RFC3339Nano)}, "until": {until.Format(time.RFC3339Nano)},
			"policy": {hash}, "limit": {strconv.Itoa(replayPage)},
		}
		if after != "" {
			q.Set("after", after)
		}
		r, err := x.do(ctx, http.MethodGet, "/decisions?"+q.Encode(), nil, "")
		if err != nil {
			return err
		}
		var page replay.Decisions
		if json.Unmarshal(r.body, &page) != nil || !add(&page) || page.Next != "" && page.Next <= after {
			return &failure{exit: exitError, code: "bad_answer", message: "What the server says was decided cannot be read."}
		}
		read += page.Read
		done := 1.0
		if page.Next != "" && page.At != nil {
			done = float64(page.At.Sub(from)) / float64(until.Sub(from))
		}
		bar.show(done, fmt.Sprintf("%d records", read))
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// progress is a bar, for who is there to see it.
type progress struct {
	*console
	shown bool
}

func (p *progress) show(done float64, what string) {
	if !p.asks {
		return
	}
	const wide = 30
	n := min(max(int(done*wide), 0), wide)
	fmt.Fprintf(p.err, "\r[%s%s] %3d %% %s", strings.Repeat("#", n), strings.Repeat(".", wide-n), min(max(int(done*100), 0), 100), what)
	p.shown = true
}

func (p *progress) end() {
	if p.shown {
		p.say("")
	}
}

// replayed says what came of it. x is nil where who acted has no name here.
func (a *app) replayed(ctx context.Context, x *api, t *replay.Trial, hash string, top int) error {
	if a.json {
		return a.document("policy.replay/v1", map[string]any{"policy": hash, "report": t.Report(maxReplayRows)})
	}
	r := t.Report(top)
	if len(r.Rows) > 0 {
		rows := [][]string{}
		names := map[string]string{}
		for _, row := range r.Rows {
			rows = append(rows, []string{
				row.Day, x.nameOf(ctx, names, row.Who), strconv.Itoa(row.Prompts), strconv.Itoa(row.Before), strconv.Itoa(row.Blocked), strconv.Itoa(row.Allowed),
			})
		}
		a.table([]string{"DAY", "WHO", "PROMPTS", "BEFORE", "BLOCKED", "NEWLY ALLOWED"}, rows)
	}
	for _, rule := range r.Rules {
		a.say("%s: asks %d times, refuses %d, allows %d that were not allowed.", clean(rule.Policy), rule.Prompts, rule.Blocked, rule.Allowed)
	}
	if r.Decisions == 0 {
		a.say("There is nothing that could be decided again.")
	} else {
		a.say("%d decisions of %s to %s, by %d who acted: %d would newly ask, %d be refused, %d be allowed, %d ask for something else.",
			r.Decisions, r.From.Format(time.DateOnly), r.To.Format(time.DateOnly), r.People, r.Prompted, r.Blocked, r.Allowed, r.Asks)
		a.say("%.2f prompts for each who acts on a day, at most %d; %d in all, and %d before.", r.PerDay, r.PerDayMax, r.Prompts, r.Before)
	}
	for _, why := range slices.Sorted(maps.Keys(r.Untold)) {
		a.say("%d could not be decided again: %s.", r.Untold[why], untold[why])
	}
	if r.Cut {
		a.say("There are more than can be counted by person; the totals are of all.")
	}
	return nil
}

var untold = map[string]string{
	replay.NotKept:  "they were recorded without what is needed",
	replay.Erased:   "who acted was erased",
	replay.Identity: "a policy asks which thing it was, which is not kept",
	replay.Unsaid:   "what the schema declares of the thing was not said then",
}

// nameOf finds what somebody is called, or what they are known by.
func (x *api) nameOf(ctx context.Context, known map[string]string, who string) string {
	if n, ok := known[who]; ok || x == nil || !strings.HasPrefix(who, "usr_") {
		if ok {
			return n
		}
		return who
	}
	known[who] = who
	var p struct {
		Name string `json:"name"`
	}
	if r, err := x.do(ctx, http.MethodGet, "/people/"+url.PathEscape(who), nil, ""); err == nil && json.Unmarshal(r.body, &p) == nil && p.Name != "" {
		known[who] = p.Name
	}
	return known[who]
}
