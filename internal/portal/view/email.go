package view

// Email is where notices of somebody's account go. Its form posts email.
type Email struct {
	broad
	Current string // "" for none
	Proved  bool
	Mails   bool // this server sends mail; without it nothing can be proved
	Address Input
	Form    Form
	Send    Form // asks for the link that proves Current
}

// Title implements View.
func (m Email) Title() string {
	switch {
	case m.Address.Error != "":
		return "Check your answer – E-mail"
	case m.Current != "" && !m.Proved:
		return "Not proved – E-mail"
	}
	return "E-mail"
}

// EmailProve is what the link to an address shows: nothing is proved before the
// button.
type EmailProve struct {
	narrow
	Address string
	Form    Form
}

// Title implements View.
func (EmailProve) Title() string { return "Is this your address? – E-mail address" }
