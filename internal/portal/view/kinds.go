package view

// Kinds is the administrators' page of the ways to sign in that people may use.
type Kinds struct {
	broad
	Items []FactorKind
}

// FactorKind is a row of Kinds.
type FactorKind struct {
	Name      string // "Passwords"
	Note      string // what it is good for, in a sentence
	On        bool
	ChangeURL string // asks first; "" for one that always may be used
}

// Title implements View.
func (m Kinds) Title() string { return "Ways to sign in" }

// KindChange asks before a way to sign in is switched on or off: which, follows from On.
type KindChange struct {
	broad
	Name string // "passwords", within a sentence
	On   bool   // it is on now
	Form Form
	Back string
}

func (m KindChange) verb() string {
	if m.On {
		return "Switch off"
	}
	return "Switch on"
}

// Title implements View.
func (m KindChange) Title() string { return m.verb() + " " + m.Name + "?" }
