package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

var _ ruleset.RolloutStore = (*Store)(nil)

// rolloutChange writes what becomes of a rollout. It moves the version of the
// deployment, as publishing does.
func (s *Store) rolloutChange(u *unit, c act.Change) bool {
	switch c := c.(type) {
	case ruleset.Start:
		s.moveSelf(u)
		u.check(c.Base, refused(policyMoved), headSQL)
		u.check(0, refused(ruleset.Running()), openRolloutsSQL)
		u.check(c.N-1, refused(ruleset.Moved()), `SELECT COALESCE(MAX(n), 0) FROM rollout`)
		if c.Publication != "" {
			u.spend(c.Publication, c.By, c.Hash, ruleset.PlanHash(c.Waves), c.Base, c.N)
		}
		u.then(`INSERT INTO rollout (n, hash, source, author, note, base, waves, revision, state, version, record_id, started_at, carrier, publication, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, 0, $9, $10, $11, $12, $13)`,
			c.N, c.Hash, members(c.Source), c.By, c.Note, c.Base, members(c.Waves), string(ruleset.Open), u.record, orNow(c.StartedAt, u.at).UnixMicro(),
			c.Carrier, c.Publication, signatureText(c.Signature))
	case ruleset.Steer:
		s.moveSelf(u)
		var ended any
		if c.State != ruleset.Open {
			ended = u.at.UnixMicro()
		}
		u.must(1, refused(ruleset.Moved()), `UPDATE rollout SET waves = $1, state = $2, version = $3, ended_at = $4, revision = revision + 1 WHERE n = $5 AND revision = $6 AND state = $7`,
			members(c.Waves), string(c.State), c.Version, ended, c.N, c.Revision, string(ruleset.Open))
	default:
		return false
	}
	return true
}

const openRolloutsSQL = `SELECT COUNT(*) FROM rollout WHERE state = 'open'`

// endRollout takes back what is being rolled out: another way to put policies in
// force has been gone.
func (u *unit) endRollout() {
	u.must(Any, nil, `UPDATE rollout SET state = $1, ended_at = $2, revision = revision + 1 WHERE state = $3`, string(ruleset.TakenOff), u.at.UnixMicro(), string(ruleset.Open))
}

// moveSelf moves the version of the deployment, which every act guards: whoever
// changes the policies waits for others here.
func (s *Store) moveSelf(u *unit) {
	if self := s.self.Load(); self != nil {
		u.touched = append(u.touched, *self)
		u.must(1, nil, bumpSQL, *self)
	}
}

// met makes a record one that is found by what a rollout cost.
func (u *unit) met(m *policy.Met, row audit.Row) error {
	if m == nil {
		return nil
	}
	entry, err := audit.ParseEntry(row.Entry)
	if err != nil || len(entry.Pseudonyms) == 0 {
		return err // of nobody: it cost nobody
	}
	u.then(`INSERT INTO audit_rollout (rollout, record_id, wave, at, who, denied, rule) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		m.Rollout, row.ID, int64(m.Wave), row.At, entry.Pseudonyms[0][:], flag(m.Denied), m.Rule)
	return nil
}

const rolloutSQL = `SELECT n, hash, author, note, base, waves, revision, state, version, record_id, started_at, COALESCE(ended_at, 0), carrier, publication`

// scanRollout reads a row, with its source and its signature if they are selected behind
// the rest.
func scanRollout(source bool) func(Row) (ruleset.Rollout, error) {
	return func(row Row) (ruleset.Rollout, error) {
		var r ruleset.Rollout
		var started, ended int64
		var waves, state, text, signature string
		dest := []any{&r.N, &r.Hash, &r.By, &r.Note, &r.Base, &waves, &r.Revision, &state, &r.Version, &r.Record, &started, &ended, &r.Carrier, &r.Publication}
		if source {
			dest = append(dest, &text, &signature)
		}
		if err := row.Scan(dest...); err != nil {
			return r, err
		}
		r.State, r.StartedAt, r.EndedAt = ruleset.State(state), moment(started), moment(ended)
		if err := json.Unmarshal([]byte(waves), &r.Waves); err != nil {
			return r, fmt.Errorf("store: the waves of rollout %d: %w", r.N, err)
		}
		if source {
			if err := json.Unmarshal([]byte(text), &r.Source); err != nil {
				return r, fmt.Errorf("store: the source of rollout %d: %w", r.N, err)
			}
			var err error
			if r.Signature, err = signatureOf(signature); err != nil {
				return r, fmt.Errorf("store: the signature of rollout %d: %w", r.N, err)
			}
		}
		return r, nil
	}
}

// Rollout implements ruleset.RolloutStore.
func (s *Store) Rollout(ctx context.Context, n int64) (ruleset.Rollout, error) {
	return need(ctx, s.db, "rollout", scanRollout(true), rolloutSQL+`, source, signature FROM rollout WHERE n = $1`, n)
}

// Rollouts implements ruleset.RolloutStore.
func (s *Store) Rollouts(ctx context.Context, before int64, n int) ([]ruleset.Rollout, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return all(ctx, s.db, scanRollout(false), rolloutSQL+` FROM rollout WHERE n < $1 ORDER BY n DESC LIMIT $2`, before, int64(n))
}

// openRollout is the rollout that runs; ok is false if none does.
func openRollout(ctx context.Context, r Reader) (ruleset.Rollout, bool, error) {
	return one(ctx, r, scanRollout(false), rolloutSQL+` FROM rollout WHERE state = $1`, string(ruleset.Open))
}

// OpenRollout gives the rollout that runs, without its source; ok is false if none
// does.
func (s *Store) OpenRollout(ctx context.Context) (r ruleset.Rollout, ok bool, err error) {
	return openRollout(ctx, s.db)
}

// Policies is how the policies stand at a moment. The same twice, nothing of them was
// changed between.
type Policies struct {
	Head int64 // the version in force; 0 is the default set
	// Edition never goes down, and goes up whenever a version is published and whenever a
	// rollout begins or ends: what enforcement points hold of the policies may be another
	// then.
	Edition int64
	// Rollout is the newest rollout, 0 if there was none, and Revision goes up with each
	// change of it; an older one is over, and changes no more.
	Rollout, Revision int64
}

// policiesSQL reads one row of each table, by its key: it is asked for again and again, and the
// rows of rollouts are large and stay. Rollouts are numbered from 1 without a gap, and all but
// the newest are over.
const policiesSQL = `SELECT (` + headSQL + `), COALESCE(r.n, 0), CASE WHEN r.ended_at IS NULL THEN 0 ELSE 1 END, COALESCE(r.revision, 0)
FROM (SELECT 1 AS n) one LEFT JOIN rollout r ON r.n = (SELECT MAX(n) FROM rollout)`

// Policies reads how the policies stand, all of it in one snapshot.
func (s *Store) Policies(ctx context.Context) (Policies, error) {
	return need(ctx, s.db, "policies", func(row Row) (p Policies, err error) {
		var over int64
		err = row.Scan(&p.Head, &p.Rollout, &over, &p.Revision)
		p.Edition = p.Head + p.Rollout + max(p.Rollout-1, 0) + over // as many as began, and as many as ended
		return p, err
	}, policiesSQL)
}

// Cost implements ruleset.RolloutStore.
func (s *Store) Cost(ctx context.Context, r *ruleset.Rollout, at time.Time) ([]policy.Spent, error) {
	out := make([]policy.Spent, len(r.Waves))
	for i := range r.Waves {
		each := map[string]*policy.Budget{}
		err := s.db.Query(ctx, `SELECT who, denied, COUNT(*) FROM (
SELECT DISTINCT who, denied, at / $1 AS span FROM audit_rollout WHERE rollout = $2 AND wave = $3 AND at >= $4) met GROUP BY who, denied`,
			[]any{policy.BudgetSpan.Microseconds(), r.N, int64(i + 1), r.Waves[i].Counted(at).UnixMicro()}, func(row Row) error {
				var who []byte
				var denied, n int64
				err := row.Scan(&who, &denied, &n)
				if each[string(who)] == nil {
					each[string(who)] = &policy.Budget{}
				}
				each[string(who)].Add(denied != 0, int(n))
				return err
			})
		people := 0
		if err == nil && len(each) > 0 {
			people, err = s.inWave(ctx, r, i, policy.Shares)
		}
		if err != nil {
			return nil, fmt.Errorf("store: what rollout %d cost: %w", r.N, err)
		}
		met := make([]policy.Budget, 0, len(each))
		for _, b := range each {
			met = append(met, *b)
		}
		out[i] = r.Waves[i].Budget.Spent(people, met)
	}
	return out, nil
}

// inWave counts the people in a wave, up to most: as policy.Rollout.Wave finds it for
// each of them.
func (s *Store) inWave(ctx context.Context, r *ruleset.Rollout, wave, most int) (int, error) {
	var args []any
	of := func(groups []string) string {
		var marks []string
		for _, g := range groups {
			args = append(args, g)
			marks = append(marks, "$"+strconv.Itoa(len(args)))
		}
		return `m.person = p.id AND g.name IN (` + strings.Join(marks, ", ") + `) AND gn.ended_at IS NULL AND gn.frozen_at IS NULL`
	}
	const joined = ` membership m JOIN people_group g ON g.id = m.grp JOIN node gn ON gn.id = g.id`
	text := `SELECT p.id FROM person p JOIN node n ON n.id = p.id`
	where := ` WHERE n.ended_at IS NULL AND n.frozen_at IS NULL`
	w := &r.Waves[wave]
	switch {
	case w.Rest:
	case len(w.Groups) == 0:
		return 0, nil
	default: // from the members, who are fewer
		text = `SELECT DISTINCT p.id FROM` + joined + ` JOIN person p ON ` + of(w.Groups) + ` JOIN node n ON n.id = p.id`
	}
	var before []string
	for _, w := range r.Waves[:wave] {
		before = append(before, w.Groups...)
	}
	if len(before) > 0 {
		where += ` AND NOT EXISTS (SELECT 1 FROM` + joined + ` WHERE ` + of(before) + `)`
	}
	args = append(args, int64(most))
	n, _, err := one(ctx, s.db, scanInt, `SELECT COUNT(*) FROM (`+text+where+` LIMIT $`+strconv.Itoa(len(args))+`) some_people`, args...)
	return int(n), err
}

// Costs implements ruleset.RolloutStore.
func (s *Store) Costs(ctx context.Context, r *ruleset.Rollout, wave int, at time.Time, n int) ([]ruleset.Cost, error) {
	var out []ruleset.Cost
	err := s.db.Query(ctx, `SELECT person, rule, denied, COUNT(*) AS met FROM (
SELECT DISTINCT COALESCE(k.person, '') AS person, r.who, r.rule, r.denied, r.at / $1 AS span
FROM audit_rollout r LEFT JOIN record_key k ON k.pseudonym = r.who WHERE r.rollout = $2 AND r.wave = $3 AND r.at >= $4) met
GROUP BY person, who, rule, denied ORDER BY met DESC, person, rule, denied LIMIT $5`,
		[]any{policy.BudgetSpan.Microseconds(), r.N, int64(wave), r.Waves[wave-1].Counted(at).UnixMicro(), int64(n)}, func(row Row) error {
			var c ruleset.Cost
			var denied, met int64
			err := row.Scan(&c.Person, &c.Rule, &denied, &met)
			c.Add(denied != 0, int(met))
			out = append(out, c)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("store: whom rollout %d cost something: %w", r.N, err)
	}
	return out, nil
}

// Readiness looks at the people behind after, at most n: who is in a wave, and could
// not do any more what they can, with everything that they have enrolled.
func (s *Store) Readiness(ctx context.Context, r *ruleset.Rollout, inForce, candidate *policy.Set, after string, n int) (ruleset.Readiness, error) {
	out := ruleset.Readiness{Waves: make([]int, len(r.Waves))}
	people, err := s.People(ctx, after, n)
	if err != nil {
		return out, err
	}
	if len(people) == n && n > 0 {
		out.Next = people[n-1].ID
	}
	allowed, err := s.Allowed(ctx)
	if err != nil {
		return out, err
	}
	plan, now := r.Plan(), s.now()
	for i := range people {
		p := &people[i]
		if !p.Node.Live() {
			continue
		}
		who := policy.Entity{Kind: policy.KindPerson, ID: p.ID}
		groups, err := s.GroupsOf(ctx, p.ID)
		if err != nil {
			return out, err
		}
		for _, g := range groups {
			if g.Node.Live() {
				who.Groups = append(who.Groups, g.Name)
			}
		}
		wave := plan.Wave(who)
		if wave < 0 {
			continue
		}
		best, err := s.best(ctx, p.ID, allowed, now)
		if err != nil {
			return out, err
		}
		out.Looked++
		out.Waves[wave]++
		if gaps := policy.Gaps(inForce, candidate, who, factor.Can(best), now); len(gaps) > 0 {
			out.Unready = append(out.Unready, ruleset.Unready{Person: p.ID, Name: p.Name, Wave: wave + 1, Gaps: gaps})
		}
	}
	return out, nil
}

// best is the highest rung that somebody has factors for.
func (s *Store) best(ctx context.Context, person string, allowed factor.Kinds, now time.Time) (assurance.Rung, error) {
	all, err := s.FactorsOf(ctx, person)
	if err != nil {
		return assurance.None, err
	}
	keys, err := s.PasskeysOf(ctx, person)
	return factor.Best(all, keys, allowed, now), err
}
