package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// reviews answers what the server answers about reviews and references. The lock is
// held.
func (i *issuer) reviews(w http.ResponseWriter, r *http.Request, noun, id, verb string) {
	var in map[string]any
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&in)
	}
	at := time.Now().Add(-time.Hour)
	if noun == "explanations" {
		if id != "7F3A9C" {
			w.Header().Set("Content-Type", "application/problem+json")
			answer(w, 404, map[string]any{"code": "ref_unknown", "detail": "Nothing of late that concerns you was refused under this reference."})
			return
		}
		answer(w, 200, map[string]any{"items": []map[string]any{{
			"ref": "rec_1", "at": at, "sentence": "Sam was not shown a page", "reason": "deny", "code": "denied", "policies": []string{"risk.extreme"},
			"why": []string{"This looks like an attack\x1b[31m and is refused."}, "risk": "extreme", "signals": []string{"new_device", "new_network"},
			"owners": []map[string]any{{"policy": "risk.extreme", "owner": "security\x1b[31m"}}, "monitored": "deny: no-nights",
		}}})
		return
	}
	v := map[string]any{
		"id": "rvw_1", "state": "open", "kind": "person", "name": "sam", "action": "token.refresh", "client": "board", "count": 3, "ref": "7F3A9C", "record": "rec_1",
		"opened_at": at, "last_at": at, "can_allow": true,
		"seen": map[string]any{
			"code": "denied", "score": 105, "band": "extreme", "network": "203.0.113.0/24", "acr": "phr", "methods": []string{"passkey"},
			"reasons": []map[string]any{{"policy": "risk.extreme", "text": "This looks like an attack."}},
			"terms":   []map[string]any{{"signal": "new_network", "points": 15, "words": "The network is new."}, {"signal": "managed_device", "points": -10, "words": "The device is managed."}},
		},
	}
	body, _ := json.Marshal(in)
	i.counts[strings.TrimSpace("review "+verb+" "+string(body))]++
	switch {
	case r.Method == http.MethodGet && id == "":
		i.counts["reviews "+r.URL.Query().Get("state")]++
		answer(w, 200, map[string]any{"items": []map[string]any{v}})
	case verb == "allow":
		v["state"], v["until"] = "allowed", time.Now().Add(time.Hour)
		answer(w, 200, v)
	case verb == "refuse", verb == "suspend":
		v["state"] = "refused"
		answer(w, 200, v)
	case verb == "close":
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 409, map[string]any{"code": "review_over", "detail": "Somebody has resolved this already.", "ref": "REF3"})
	default:
		answer(w, 200, v)
	}
}
