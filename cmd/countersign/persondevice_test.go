package main

import (
	"encoding/json"
	"net/http"
	"time"
)

// devices answers what the server answers about the devices of a person. The lock is held.
func (i *issuer) devices(w http.ResponseWriter, r *http.Request, person, rest string) {
	d := map[string]any{"id": "dev_1", "name": "Chrome on Linux\x1b[31m", "network": "203.0.113.0/24", "created_at": time.Now().Add(-time.Hour), "last_seen_at": time.Now()}
	switch {
	case r.Method == http.MethodGet && person == "":
		answer(w, 200, map[string]any{"items": []map[string]any{{
			"id": "dev_2", "person": "usr_2", "name": "Safari on macOS", "managed": map[string]any{"until": time.Now().Add(1000 * time.Hour), "by": r.URL.Query().Get("marked_by") + "\x1b[31m"},
		}}})
	case r.Method == http.MethodGet:
		answer(w, 200, map[string]any{"items": []map[string]any{d, {
			"id": "dev_2", "name": "Safari on macOS", "managed": map[string]any{"until": time.Now().Add(1000 * time.Hour), "asset": "LT-0042"},
		}}})
	case r.Method == http.MethodPut && rest == "/dev_1/managed":
		var in map[string]any
		_ = json.NewDecoder(r.Body).Decode(&in)
		until, err := time.Parse(time.RFC3339, in["until"].(string))
		i.counts["managed "+person+" "+time.Until(until).Round(24*time.Hour).String()]++
		if err != nil {
			panic(err)
		}
		d["managed"] = in
		answer(w, 200, d)
	case r.Method == http.MethodDelete && rest == "/dev_1/managed":
		i.counts["unmanaged "+person]++
		w.WriteHeader(204)
	default:
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 404, map[string]any{"code": "device_not_found", "detail": "The person has not signed in from such a device."})
	}
}
