package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// reviewItem is a review as the server tells of it.
type reviewItem struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	Action   string    `json:"action"`
	Client   string    `json:"client"`
	Count    int64     `json:"count"`
	Ref      string    `json:"ref"`
	Record   string    `json:"record"`
	OpenedAt time.Time `json:"opened_at"`
	LastAt   time.Time `json:"last_at"`
	CanAllow bool      `json:"can_allow"`
	Reason   string    `json:"reason"`
	Until    time.Time `json:"until"`
	Seen     struct {
		Code    string `json:"code"`
		Reasons []struct {
			Policy string `json:"policy"`
			Text   string `json:"text"`
		} `json:"reasons"`
		Score int    `json:"score"`
		Band  string `json:"band"`
		Terms []struct {
			Signal string `json:"signal"`
			Points int    `json:"points"`
			Words  string `json:"words"`
		} `json:"terms"`
		Network string   `json:"network"`
		Session string   `json:"session"`
		ACR     string   `json:"acr"`
		Methods []string `json:"methods"`
	} `json:"seen"`
}

// standing says how it stands, in words.
func (r reviewItem) standing() string {
	if r.State == "allowed" {
		return "allowed until " + r.Until.Local().Format("2006-01-02 15:04")
	}
	return r.State
}

func (a *app) review() *cobra.Command {
	return group("review", "List, read and resolve reviews of what was refused", a.reviewList(), a.reviewShow(), a.reviewResolve())
}

var reviewStates = []string{"open", "allowed", "refused", "closed", "all"}

func (a *app) reviewList() *cobra.Command {
	var state string
	c := &cobra.Command{Use: "list", Short: "List reviews, the newest first", Args: cobra.NoArgs}
	c.Flags().StringVar(&state, "state", "open", "only those: "+strings.Join(reviewStates, ", "))
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if !slices.Contains(reviewStates, state) {
			return usage("--state is one of %s.", strings.Join(reviewStates, ", "))
		}
		path := "/reviews"
		if state != "all" {
			path += "?state=" + state
		}
		return listed(ctx, a, path, "review.list/v1", []string{"ID", "WHO", "ACTION", "CLIENT", "RISK", "TIMES", "LAST", "STATE"}, func(r reviewItem) []string {
			return []string{r.ID, r.Name, r.Action, r.Client, r.Seen.Band, strconv.FormatInt(r.Count, 10), since(a.now(), r.LastAt), r.standing()}
		})
	})
	return c
}

// reviewAt reads one review, or what became of it.
func reviewAt(ctx context.Context, x *api, method, path string, body any) (r reviewItem, raw map[string]any, err error) {
	answer, err := x.do(ctx, method, path, body, "")
	if err != nil {
		return r, nil, err
	}
	if json.Unmarshal(answer.body, &r) != nil || json.Unmarshal(answer.body, &raw) != nil || r.ID == "" {
		return r, nil, &failure{exit: exitError, code: "bad_answer", message: "The server's answer is no review."}
	}
	return r, raw, nil
}

func (a *app) reviewShow() *cobra.Command {
	return &cobra.Command{
		Use: "show REVIEW", Short: "Show what was refused, why, and how unusual it was", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			r, raw, err := reviewAt(ctx, x, http.MethodGet, "/reviews/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return err
			}
			if a.json {
				return a.document("review.show/v1", raw)
			}
			return a.showReview(r)
		}),
	}
}

func (a *app) showReview(r reviewItem) error {
	rows := [][]string{
		{"State", r.standing()},
		{"Who", r.Name + " (" + r.Kind + ")"},
		{"What", fmt.Sprintf("%s, refused %d times, last %s", r.Action, r.Count, since(a.now(), r.LastAt))},
	}
	for _, x := range [][2]string{
		{"Client", r.Client},
		{"Network", r.Seen.Network},
		{"Session", r.Seen.Session},
		{"Proved", strings.TrimSpace(r.Seen.ACR + " " + strings.Join(r.Seen.Methods, ", "))},
		{"Reference", r.Ref},
		{"Record", r.Record},
		{"Resolved", r.Reason},
	} {
		if x[1] != "" {
			rows = append(rows, x[:])
		}
	}
	for _, why := range r.Seen.Reasons {
		rows = append(rows, []string{"Why", why.Text + " (" + why.Policy + ")"})
	}
	if r.Seen.Band != "" {
		rows = append(rows, []string{"Risk", fmt.Sprintf("%s, %d points", r.Seen.Band, r.Seen.Score)})
	}
	for _, t := range r.Seen.Terms {
		rows = append(rows, []string{fmt.Sprintf("%+d", t.Points), t.Words + " (" + t.Signal + ")"})
	}
	for _, row := range rows {
		if _, err := fmt.Fprintf(a.out, "%-10s %s\n", clean(row[0]), clean(row[1])); err != nil {
			return err
		}
	}
	if r.State == "open" {
		a.say("To resolve it: countersign review resolve %s --help", clean(r.ID))
	}
	return nil
}

func (a *app) reviewResolve() *cobra.Command {
	var allow time.Duration
	var notThem, suspend, shut bool
	var reason string
	c := &cobra.Command{
		Use: "resolve REVIEW", Short: "Say whether it was them", Args: cobra.ExactArgs(1),
		Long: "Say whether it was them. Ask them first, in a way that whoever has their account does not hear.\n\n" +
			"--allow: it was them. From there, for that long, a passkey is enough. It lowers no rule and proves nothing for them.\n" +
			"--not-them: it was somebody else. Everything that is signed in for them ends.\n" +
			"--not-them --suspend: the same, and they are disabled until somebody enables them.\n" +
			"--close: nothing follows.",
		Example: "  countersign review resolve rvw_01JD --allow 1h --reason 'called her, she is in Lisbon'\n" +
			"  countersign review resolve rvw_01JD --not-them --reason 'her laptop was stolen'",
	}
	c.Flags().DurationVar(&allow, "allow", 0, "it was them: counts for so long, 1m to 24h")
	c.Flags().BoolVar(&notThem, "not-them", false, "it was somebody else")
	c.Flags().BoolVar(&suspend, "suspend", false, "… and they are disabled")
	c.Flags().BoolVar(&shut, "close", false, "nothing follows")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record and for them")
	c.MarkFlagsOneRequired("allow", "not-them", "close")
	c.MarkFlagsMutuallyExclusive("allow", "not-them", "close")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		body, how := map[string]any{}, "close"
		if reason != "" {
			body["reason"] = reason
		}
		switch allowing := c.Flags().Changed("allow"); {
		case suspend && !notThem:
			return usage("--suspend goes with --not-them.")
		case allowing && reason == "":
			return usage("Say how you know that it was them: --reason.")
		case allowing && (allow < time.Minute || allow > 24*time.Hour || allow%time.Minute != 0):
			return usage("--allow is whole minutes, from 1m to 24h.")
		case allowing:
			how, body["minutes"] = "allow", int(allow/time.Minute)
		case suspend:
			how = "suspend"
		case notThem:
			how = "refuse"
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		r, raw, err := reviewAt(ctx, x, http.MethodPost, "/reviews/"+url.PathEscape(args[0])+"/"+how, body)
		if err != nil {
			return err
		}
		if a.json {
			return a.document("review.resolve/v1", raw)
		}
		a.say("%s", map[string]string{
			"allow":   "Until " + r.Until.Local().Format("2006-01-02 15:04") + " a passkey is enough there.",
			"refuse":  "Noted. Everything that was signed in for a person has ended; the secret of a service's client is yours to change.",
			"suspend": "They are disabled. To let them in again: countersign person enable " + clean(r.Name),
			"close":   "Closed.",
		}[how])
		return nil
	})
	return c
}

// explained is a record of the log as the server explains it.
type explained struct {
	Ref      string    `json:"ref"`
	At       time.Time `json:"at"`
	Sentence string    `json:"sentence"`
	Decision string    `json:"reason"`
	Code     string    `json:"code"`
	Policies []string  `json:"policies"`
	Why      []string  `json:"why"`
	Needs    string    `json:"needs"`
	Monitor  string    `json:"monitored"`
	Rollout  string    `json:"rollout"`
	Owners   []struct {
		Policy string `json:"policy"`
		Owner  string `json:"owner"`
	} `json:"owners"`
	Risk    string   `json:"risk"`
	Signals []string `json:"signals"`
	Review  string   `json:"review"`
}

// facts are its lines beside the sentence and the reasons.
func (e explained) facts() (lines []string) {
	risk := e.Risk
	if risk != "" && len(e.Signals) > 0 {
		risk += ", because of " + strings.Join(e.Signals, ", ")
	}
	for _, f := range [][2]string{
		{"Needed", e.Needs}, {"Policies", strings.Join(e.Policies, ", ")}, {"In monitor", e.Monitor}, {"Rollout", e.Rollout}, {"Risk", risk}, {"Review", e.Review},
	} {
		if f[1] != "" {
			lines = append(lines, "  "+f[0]+": "+f[1])
		}
	}
	for _, o := range e.Owners {
		lines = append(lines, "  Ask "+o.Owner+" about "+o.Policy+".")
	}
	return lines
}

// refPattern is a reference as servers give them.
var refPattern = regexp.MustCompile(`^[0-9A-Fa-f]{6}$`)

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use: "explain REF", Short: "Explain why a request was refused or asked for proof", Args: cobra.ExactArgs(1),
		Long:    "Explain why a request was refused or asked for proof: which policies said so, in words. REF is the reference that the answer or page gave. It explains what concerns you, and to administrators what concerns anybody.",
		Example: "  countersign explain 7F3A9C",
		RunE: a.do(func(ctx context.Context, args []string) error {
			if !refPattern.MatchString(args[0]) {
				return usage("A reference has six digits and letters from A to F, such as 7F3A9C.")
			}
			x, err := a.api()
			if err != nil {
				return err
			}
			answer, err := x.do(ctx, http.MethodGet, "/explanations/"+url.PathEscape(args[0]), nil, "")
			if err != nil {
				return err
			}
			var page struct {
				Items []explained `json:"items"`
			}
			var raw map[string]any
			if json.Unmarshal(answer.body, &page) != nil || json.Unmarshal(answer.body, &raw) != nil {
				return &failure{exit: exitError, code: "bad_answer", message: "The server's answer is no explanation."}
			}
			if a.json {
				return a.document("explain/v1", raw)
			}
			for _, e := range page.Items {
				lines := []string{e.At.Local().Format("2006-01-02 15:04:05") + "  " + e.Sentence}
				for _, w := range e.Why {
					lines = append(lines, "  "+w)
				}
				lines = append(lines, e.facts()...)
				for _, l := range lines {
					if _, err := fmt.Fprintln(a.out, clean(l)); err != nil {
						return err
					}
				}
			}
			return nil
		}),
	}
}
