package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// rollout starts, reads and steers rollouts of policies.
func (i *issuer) rollout(w http.ResponseWriter, r *http.Request, id, verb string) {
	n, _ := strconv.Atoi(id)
	switch {
	case r.Method == "POST" && id == "":
		i.begins(w, r)
	case id == "":
		list := []any{}
		if len(i.rolled) > 0 {
			list = append(list, i.rolledOut(len(i.rolled)))
		}
		answer(w, 200, map[string]any{"items": list})
	case n < 1 || n > len(i.rolled):
		answer(w, 404, map[string]any{"code": "rollout_not_found", "detail": "There is no such rollout."})
	case verb == "readiness" && r.URL.Query().Get("after") == "":
		answer(w, 200, map[string]any{"looked": 1, "waves": []int{1, 0}[:len(i.rolled[n-1].Waves)], "items": []any{}, "next": "usr_1"})
	case verb == "readiness":
		gaps := []policy.Gap{{Rule: "harsh", Words: "a hardware-bound sign-in", Actions: []policy.Action{policy.TokenRefresh}}, {Rule: "stop", Actions: []policy.Action{policy.SelfWrite}}}
		answer(w, 200, map[string]any{"looked": 2, "waves": []int{1, 1}[:len(i.rolled[n-1].Waves)], "items": []any{map[string]any{"person": "usr_1", "name": "Dana\x1b[31m", "wave": 1, "gaps": gaps}}})
	case r.Method == "POST":
		i.steered(w, r, n, verb)
	default:
		answer(w, 200, i.rolledOut(n))
	}
}

func (i *issuer) begins(w http.ResponseWriter, r *http.Request) {
	var in struct {
		After int64
		Hash  string
		Note  string
		Waves []wave
	}
	text, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(text, &in)
	if n := len(i.rolled); n > 0 && i.rolled[n-1].State == ruleset.Open {
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 409, map[string]any{"code": "rollout_running", "detail": "A rollout runs."})
		return
	}
	var all map[string]any
	_ = json.Unmarshal(text, &all)
	if i.waits(w, r, all) {
		return
	}
	out := ruleset.Rollout{N: int64(len(i.rolled) + 1), Hash: in.Hash, Note: in.Note, Base: in.After, Revision: 1, State: ruleset.Open}
	for _, v := range in.Waves {
		out.Waves = append(out.Waves, policy.Wave{Groups: v.Groups, Rest: v.Everybody, From: v.From, Budget: policy.Budget{Prompts: v.Prompts, Denials: v.Denials}})
	}
	i.rolled = append(i.rolled, out)
	answer(w, 201, i.rolledOut(len(i.rolled)))
}

func (i *issuer) steered(w http.ResponseWriter, r *http.Request, n int, verb string) {
	var in struct {
		Revision         int64
		Wave             int
		Prompts, Denials *int
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	out := &i.rolled[n-1]
	var budget *policy.Budget
	if in.Prompts != nil {
		budget = &policy.Budget{Prompts: *in.Prompts, Denials: *in.Denials}
	}
	changes, err := out.Apply(ruleset.Verb(verb), in.Wave, budget, "usr_1", time.Now())
	if err != nil || in.Revision != out.Revision {
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 409, map[string]any{"code": "refused", "detail": strings.TrimSpace(err.Error())})
		return
	}
	s := changes[0].(ruleset.Steer)
	out.Waves, out.State, out.Version, out.Revision = s.Waves, s.State, s.Version, out.Revision+1
	answer(w, 200, i.rolledOut(n))
}

// rolledOut is a rollout as the server tells it.
func (i *issuer) rolledOut(n int) map[string]any {
	r := i.rolled[n-1]
	waves := []any{}
	for k, v := range r.Waves {
		waves = append(waves, map[string]any{
			"wave": k + 1, "groups": v.Groups, "everybody": v.Rest, "from": v.From, "prompts": v.Budget.Prompts, "denials": v.Budget.Denials,
			"state": r.Plan().State(k, time.Now()), "held": v.Held, "spent": policy.Budget{Prompts: 3},
			"costs": []any{map[string]any{"person": "usr_1", "rule": "harsh", "prompts": 3, "denials": 0}, map[string]any{"rule": "stop", "prompts": 0, "denials": 1}},
		})
	}
	return map[string]any{"rollout": r.N, "state": r.State, "hash": r.Hash, "note": r.Note, "after": r.Base, "version": r.Version, "revision": r.Revision, "started_at": time.Now(), "waves": waves}
}
