package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// everybody names the wave of all who are in no other.
const everybody = "everybody"

// A budget is at least so much: one odd case takes no wave back.
const (
	leastPrompts = 5
	leastDenials = 2
)

func (a *app) policyRollout() *cobra.Command {
	return group("rollout", "Put policies in force for one group of people after the other",
		a.rolloutStart(), a.rolloutStatus(), a.rolloutList(), a.rolloutStep("pause"), a.rolloutStep("resume"), a.rolloutStep("undo"), a.rolloutStep("finish"))
}

// rollout is one as the server tells it.
type rollout struct {
	Rollout   int64      `json:"rollout"`
	State     string     `json:"state"`
	Hash      string     `json:"hash"`
	Note      string     `json:"note"`
	After     int64      `json:"after"`
	Version   int64      `json:"version"`
	StartedBy string     `json:"started_by"`
	StartedAt time.Time  `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"`
	Revision  int64      `json:"revision"`
	Waves     []struct {
		wave
		Wave  int            `json:"wave"`
		State string         `json:"state"`
		Held  string         `json:"held"`
		Spent *policy.Budget `json:"spent"`
		Costs []struct {
			Person string `json:"person"`
			Rule   string `json:"rule"`
			policy.Budget
		} `json:"costs"`
	} `json:"waves"`
}

// wave is one as the server is told it.
type wave struct {
	Groups    []string  `json:"groups,omitempty"`
	Everybody bool      `json:"everybody,omitempty"`
	From      time.Time `json:"from"`
	Prompts   int       `json:"prompts"`
	Denials   int       `json:"denials"`
}

func (w *wave) who() string {
	if w.Everybody {
		return "everybody else"
	}
	return strings.Join(w.Groups, ", ")
}

// waves reads what --wave says: GROUP,GROUP@TIME, the time being one or a length of
// time from now. The first begins now if it does not say.
func (a *app) waves(args []string) ([]wave, error) {
	now := a.now().UTC().Truncate(time.Second)
	var out []wave
	for i, arg := range args {
		names, when, dated := strings.Cut(arg, "@")
		w := wave{From: now}
		if names == everybody {
			w.Everybody = true
		} else {
			w.Groups = strings.Split(names, ",")
		}
		if !dated && i > 0 {
			return nil, usage("--wave %s does not say when it begins, as in %s@24h or %s@2026-12-01T09:00:00Z.", arg, arg, arg)
		}
		if dated {
			d, err := time.ParseDuration(when)
			if err == nil && d >= 0 {
				w.From = now.Add(d)
			} else if w.From, err = time.Parse(time.RFC3339, when); err != nil {
				return nil, usage("%q is no time, such as 2026-12-01T09:00:00Z, and no length of time from now, such as 24h.", when)
			}
		}
		out = append(out, w)
	}
	if len(out) == 0 {
		return nil, usage("Say for whom the policies come into force first: --wave GROUP, and then for example --wave %s@72h.", everybody)
	}
	return out, nil
}

// planOf is waves as decisions go by them.
func planOf(waves []wave) *policy.Rollout {
	r := &policy.Rollout{}
	for _, w := range waves {
		r.Waves = append(r.Waves, policy.Wave{Groups: w.Groups, Rest: w.Everybody, From: w.From})
	}
	return r
}

// budgets takes what each wave may cost from what its people did: the busiest day, and
// a margin in percent.
func (x *api) budgets(ctx context.Context, b *bundle, waves []wave, since time.Duration, margin int) error {
	plan := planOf(waves)
	trials := make([]*replay.Trial, len(waves))
	for i := range trials {
		trials[i] = replay.New(b.set)
	}
	end := x.app.now().UTC()
	err := x.replay(ctx, func(page *replay.Decisions) bool {
		return page.Each(func(d *replay.Decision) {
			if i := plan.Wave(d.Person()); i >= 0 {
				trials[i].Add(d)
			}
		})
	}, b.set.Version(), end.Add(-since), end)
	if err != nil {
		return err
	}
	for i, t := range trials {
		day := t.Busiest()
		waves[i].Prompts = max(leastPrompts, int(math.Ceil(float64(day.Prompts)*(1+float64(margin)/100))))
		waves[i].Denials = max(leastDenials, int(math.Ceil(float64(day.Denials)*(1+float64(margin)/100))))
		x.app.say("Wave %d, %s: on its busiest day it would have been asked %d times and refused %d times.", i+1, clean(waves[i].who()), day.Prompts, day.Denials)
	}
	return nil
}

// rolloutFlags are those of rollout start.
type rolloutFlags struct {
	waves            []string
	since            time.Duration
	margin           int
	prompts, denials int
	fixed            bool // the budget is said
	note             string
	yes              bool
	waiting
}

// command is the command line again.
func (f *rolloutFlags) command(dir string) string {
	line := "countersign policy rollout start " + dir
	for _, w := range f.waves {
		line += " --wave " + w
	}
	if f.fixed {
		line += fmt.Sprintf(" --prompts %d --denials %d", f.prompts, f.denials)
	}
	return line
}

func (a *app) rolloutStart() *cobra.Command {
	var args rolloutFlags
	c := &cobra.Command{
		Use:   "start DIR",
		Short: "Begin to put the policies in a directory in force, wave by wave",
		Long: `Begin to put the policies in DIR in force: for the people of each --wave from its date
on. Until then the version in force decides for them, and the log says what the new
one would have answered. Services, agents and whoever is not known come last, when the
rollout is finished.
Each wave has a budget: how often its people may be asked for more, or refused, in any
24 hours, where the version in force would not do the same. One more, and it takes
itself back. The budget is the busiest day of the last --since, decided again, and
--margin percent; or what --prompts and --denials say.
The tests and never statements of DIR have to hold. A person has to sign exactly this:
the policies, the waves, their dates and their budgets. Unless one has, this hands it in
and waits, as countersign policy publish does; run again, it finds the same and keeps
its dates and budgets. A service says the budget itself.`,
		Example: "  countersign policy rollout start ./policies --wave pilots --wave staff@24h --wave everybody@72h",
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringArrayVar(&args.waves, "wave", nil, "GROUP[,GROUP…][@TIME]: the groups, or everybody, and when, as 24h or 2026-12-01T09:00:00Z")
	f.DurationVar(&args.since, "since", 7*24*time.Hour, "how far back what was decided is tried, for the budget")
	f.IntVar(&args.margin, "margin", 50, "percent that a wave may cost more than its busiest day")
	f.IntVar(&args.prompts, "prompts", 0, "the budget of each wave, with --denials; nothing is tried then")
	f.IntVar(&args.denials, "denials", 0, "the budget of each wave, with --prompts")
	f.StringVar(&args.note, "note", "", "why, in a line")
	f.BoolVarP(&args.yes, "yes", "y", false, "do not ask")
	args.flags(c)
	c.MarkFlagsRequiredTogether("prompts", "denials")
	c.RunE = a.do(func(ctx context.Context, dirs []string) error {
		if err := args.check(); err != nil {
			return err
		}
		args.fixed = f.Changed("prompts")
		return a.rollOut(ctx, dirs, args)
	})
	return c
}

// rollOut begins a rollout of a directory.
func (a *app) rollOut(ctx context.Context, dirs []string, args rolloutFlags) error {
	waves, err := a.waves(args.waves)
	if err != nil {
		return err
	}
	if args.since <= 0 || args.margin < 0 || args.prompts < 0 || args.denials < 0 {
		return usage("--since is a length of time such as 168h; --margin and the budget are not negative.")
	}
	b, err := a.bundle(dirs)
	if err != nil {
		return err
	}
	if err := a.holds(b); err != nil {
		return err
	}
	x, v, err := a.inForce(ctx)
	if err != nil {
		return err
	}
	lines := differenceOf(v.source(), b.source)
	if len(lines) == 0 {
		return &failure{exit: exitError, code: "policy_unchanged", message: "These policies are in force already.", fix: "countersign policy history"}
	}
	if waves, err = x.budgeted(ctx, b, v.Version, waves, args); err != nil {
		return err
	}
	if !a.json {
		a.printDifference(lines, v.Version, b.set)
	}
	for i, w := range waves {
		a.say("Wave %d: %s, from %s, at most %d prompts and %d refusals in 24 hours.", i+1, clean(w.who()), w.From.Format(time.RFC3339), w.Prompts, w.Denials)
	}
	if err := a.agreed(args.yes, "Roll out "+b.source.Hash()+"?", args.command(dirs[0])+" --yes"); err != nil {
		return err
	}
	body := bodyOf(b, v.Version, args.note)
	body["waves"] = waves
	args.again = args.command(dirs[0])
	r, err := a.forward(ctx, x, "/rollouts", body, args.waiting)
	if err != nil {
		return err
	}
	return a.said(r, "Rollout %d has begun. To stop it: countersign policy rollout pause")
}

// budgeted gives the waves with what each may cost. Where the same waits for a signature,
// or has one, they are those that are signed: their dates and budgets stand.
func (x *api) budgeted(ctx context.Context, b *bundle, after int64, waves []wave, args rolloutFlags) ([]wave, error) {
	if args.fixed {
		for i := range waves {
			waves[i].Prompts, waves[i].Denials = args.prompts, args.denials
		}
	}
	p, err := x.open(ctx, after, b.source.Hash(), func(p *publication) bool { return p.same(waves, args.fixed, x.app.now()) })
	switch {
	case err != nil:
		return nil, err
	case p != nil:
		x.app.say("%s was handed in already, and is %s: its dates and budgets stand.", clean(p.ID), p.State)
		return p.Waves, nil
	case args.fixed:
		return waves, nil
	case x.service != nil:
		return nil, usage("A service says what each wave may cost: --prompts and --denials.")
	}
	return waves, x.budgets(ctx, b, waves, args.since, args.margin)
}

// sameTime is how far apart dates may be that were said in the same way: between saying
// them and handing them in, somebody was asked.
const sameTime = 15 * time.Minute

// same reports whether what was handed in is of these waves: the same people in each, from
// the same time, or as long after it was handed in as now is said from now.
func (p *publication) same(waves []wave, budget bool, now time.Time) bool {
	return slices.EqualFunc(p.Waves, waves, func(a, b wave) bool {
		apart := a.From.Sub(p.SubmittedAt) - b.From.Sub(now)
		return slices.Equal(a.Groups, b.Groups) && a.Everybody == b.Everybody && (a.From.Equal(b.From) || apart.Abs() <= sameTime) &&
			(!budget || a.Prompts == b.Prompts && a.Denials == b.Denials)
	})
}

// rolled sends a change and says what came of it.
func (a *app) rolled(ctx context.Context, x *api, path string, body map[string]any, words string) error {
	r, err := x.do(ctx, http.MethodPost, path, body, "")
	if err != nil {
		return err
	}
	return a.said(r, words)
}

func (a *app) said(r reply, words string) error {
	var out rollout
	if json.Unmarshal(r.body, &out) != nil || out.Rollout == 0 {
		return badRollout()
	}
	if a.json {
		return a.document("policy.rollout/v1", map[string]any{"rollout": json.RawMessage(r.body)})
	}
	a.say(words, out.Rollout)
	return nil
}

func badRollout() error {
	return &failure{exit: exitError, code: "bad_answer", message: "What the server says of the rollout cannot be read."}
}

// rollout reads one, the newest if n is 0.
func (x *api) rollout(ctx context.Context, n int64) (raw json.RawMessage, out rollout, err error) {
	if n == 0 {
		r, err := x.do(ctx, http.MethodGet, "/rollouts?limit=1", nil, "")
		if err != nil {
			return nil, out, err
		}
		var page struct {
			Items []rollout `json:"items"`
		}
		if json.Unmarshal(r.body, &page) != nil {
			return nil, out, badRollout()
		}
		if len(page.Items) == 0 {
			return nil, out, noRollout()
		}
		n = page.Items[0].Rollout
	}
	r, err := x.do(ctx, http.MethodGet, "/rollouts/"+strconv.FormatInt(n, 10), nil, "")
	if err != nil {
		return nil, out, err
	}
	if json.Unmarshal(r.body, &out) != nil || out.Rollout != n {
		return nil, out, badRollout()
	}
	return r.body, out, nil
}

func noRollout() error {
	return &failure{exit: exitError, code: "rollout_none", message: "No rollout runs.", fix: "countersign policy rollout start DIR --wave GROUP"}
}

// unready is who is not ready for a rollout.
type unready struct {
	Person string       `json:"person"`
	Name   string       `json:"name"`
	Wave   int          `json:"wave"`
	Gaps   []policy.Gap `json:"gaps"`
}

// readiness reads who is not ready, page by page.
func (x *api) readiness(ctx context.Context, r *rollout) (waves []int, all []unready, err error) {
	waves, all = make([]int, len(r.Waves)), []unready{}
	for after := ""; ; {
		q := url.Values{"limit": {"200"}}
		if after != "" {
			q.Set("after", after)
		}
		got, err := x.do(ctx, http.MethodGet, fmt.Sprintf("/rollouts/%d/readiness?%s", r.Rollout, q.Encode()), nil, "")
		if err != nil {
			return nil, nil, err
		}
		var page struct {
			Waves []int     `json:"waves"`
			Items []unready `json:"items"`
			Next  string    `json:"next"`
		}
		if json.Unmarshal(got.body, &page) != nil || len(page.Waves) != len(waves) || page.Next != "" && page.Next <= after {
			return nil, nil, badRollout()
		}
		for i, n := range page.Waves {
			waves[i] += n
		}
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return waves, all, nil
		}
	}
}

func (a *app) rolloutStatus() *cobra.Command {
	var top int
	c := &cobra.Command{
		Use:   "status [NUMBER]",
		Short: "Say how far a rollout is, what it costs, and who is not ready",
		Long: `Say of the newest rollout, or of the one with that number, where each wave stands, what it
cost of its budget in the last 24 hours, whom and by which rule, and who lacks what the
new policies would ask of them, by what they have enrolled.`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().IntVar(&top, "top", 20, "how many people to name; JSON names all")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		n := int64(0)
		if len(args) > 0 {
			var err error
			if n, err = strconv.ParseInt(args[0], 10, 64); err != nil || n < 1 {
				return usage("%q is no number of a rollout.", args[0])
			}
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		raw, r, err := x.rollout(ctx, n)
		if err != nil {
			return err
		}
		people, missing, err := x.readiness(ctx, &r)
		if err != nil {
			return err
		}
		if a.json {
			return a.document("policy.rollout/v1", map[string]any{"rollout": raw, "people": people, "not_ready": missing})
		}
		a.printRollout(ctx, x, &r, people, missing, top)
		return nil
	})
	return c
}

// how says how a rollout ended, in a few words.
func (r *rollout) how() string {
	switch r.State {
	case "finished":
		return "version " + strconv.FormatInt(r.Version, 10)
	case "undone":
		return "taken back"
	}
	return "runs"
}

func (a *app) rolloutList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the rollouts, newest first", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/rollouts", "policy.rollouts/v1", []string{"ROLLOUT", "BEGAN", "ENDED", "HOW", "NOTE"}, func(r rollout) []string {
			ended := ""
			if r.EndedAt != nil {
				ended = r.EndedAt.Format(time.DateTime)
			}
			return []string{strconv.FormatInt(r.Rollout, 10), r.StartedAt.Format(time.DateTime), ended, r.how(), r.Note}
		})
	})}
}

func (a *app) printRollout(ctx context.Context, x *api, r *rollout, people []int, missing []unready, top int) {
	lacking := make([]int, len(r.Waves))
	for _, u := range missing {
		if u.Wave >= 1 && u.Wave <= len(lacking) {
			lacking[u.Wave-1]++
		}
	}
	rows := [][]string{}
	for i, w := range r.Waves {
		state, prompts, denials := w.State, strconv.Itoa(w.Prompts), strconv.Itoa(w.Denials)
		if w.Held != "" {
			state = w.Held
		}
		if w.Spent != nil {
			prompts, denials = fmt.Sprintf("%d of %s", w.Spent.Prompts, prompts), fmt.Sprintf("%d of %s", w.Spent.Denials, denials)
		}
		rows = append(rows, []string{strconv.Itoa(w.Wave), w.who(), w.From.Format(time.RFC3339), state, prompts, denials, fmt.Sprintf("%d of %d", people[i]-lacking[i], people[i])})
	}
	a.table([]string{"WAVE", "PEOPLE", "FROM", "STATE", "PROMPTS", "REFUSALS", "READY"}, rows)
	names := map[string]string{}
	for _, w := range r.Waves {
		for i, c := range w.Costs {
			if i == top {
				break
			}
			who := "Somebody who was erased"
			if c.Person != "" {
				who = x.nameOf(ctx, names, c.Person)
			}
			a.say("Wave %d: %s asked %s %d times, and refused them %d times.", w.Wave, clean(c.Rule), clean(who), c.Prompts, c.Denials)
		}
	}
	for i, u := range missing {
		if i == top {
			a.say("%d more are not ready.", len(missing)-top)
			break
		}
		for _, g := range u.Gaps {
			lacks := "whatever they show"
			if g.Words != "" {
				lacks = "who would need " + g.Words
			}
			a.say("Wave %d: %s would refuse %s, %s.", u.Wave, clean(g.Rule), clean(u.Name), clean(lacks))
		}
	}
	switch {
	case r.State == "finished":
		a.say("Rollout %d is finished: version %d.", r.Rollout, r.Version)
	case r.State == "undone":
		a.say("Rollout %d was taken back.", r.Rollout)
	default:
		a.say("Rollout %d follows version %d. %s", r.Rollout, r.After, clean(r.Note))
	}
}

// rolloutSteps are what is done with a rollout that runs.
var rolloutSteps = map[string]struct{ short, long, asks, done string }{
	"pause": {
		"Put a wave into monitor, with those behind it",
		"Put a wave, with those behind it, into monitor: the version in force decides for them again. Without --wave it is the first, and so all. It goes on, with what it has cost, by countersign policy rollout resume.",
		"", "Rollout %d is paused. To go on: countersign policy rollout resume",
	},
	"resume": {
		"Let a wave go on that was paused or taken back",
		"Let a wave go on. One that was undone, or took itself back, is counted afresh. With --prompts and --denials it gets another budget.",
		"Let the new policies decide again?", "Rollout %d goes on.",
	},
	"undo": {
		"Take back a wave with those behind it, or the whole rollout",
		"Take back the rollout, for good; or, with --wave, that wave and those behind it.",
		"Take it back?", "Rollout %d was taken back. The version in force decides.",
	},
	"finish": {
		"Put the policies of the rollout in force for everybody",
		"Put the policies of the rollout in force for everybody, services and agents too, as the next version. Every wave has to be in force. countersign policy rollback undoes it.",
		"Put the policies in force for everybody?", "Rollout %d is finished. To undo it: countersign policy rollback",
	},
}

func (a *app) rolloutStep(verb string) *cobra.Command {
	var wave, prompts, denials int
	var yes bool
	words := rolloutSteps[verb]
	c := &cobra.Command{Use: verb, Short: words.short, Long: words.long, Args: cobra.NoArgs}
	f := c.Flags()
	if verb != "finish" {
		f.IntVar(&wave, "wave", 0, "which wave, from 1")
	}
	if words.asks != "" {
		f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	if verb == "resume" {
		f.IntVar(&prompts, "prompts", 0, "another budget, with --denials")
		f.IntVar(&denials, "denials", 0, "another budget, with --prompts")
		c.MarkFlagsRequiredTogether("prompts", "denials")
	}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		_, r, err := x.rollout(ctx, 0)
		if err != nil {
			return err
		}
		if r.State != "open" {
			return noRollout()
		}
		if words.asks != "" {
			if err := a.agreed(yes, words.asks, "countersign policy rollout "+verb+" --yes"); err != nil {
				return err
			}
		}
		if verb == "resume" && wave == 0 {
			wave = 1
		}
		body := map[string]any{"revision": r.Revision}
		if wave != 0 {
			body["wave"] = wave
		}
		if f.Changed("prompts") {
			body["prompts"], body["denials"] = prompts, denials
		}
		done := words.done
		if verb == "undo" && wave != 0 {
			done = "Rollout %d: the wave, and those behind it, are in monitor. To let it go on: countersign policy rollout resume"
		}
		return a.rolled(ctx, x, fmt.Sprintf("/rollouts/%d/%s", r.Rollout, verb), body, done)
	})
	return c
}
