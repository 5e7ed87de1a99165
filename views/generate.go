package views

//go:generate go tool templ generate -path .

import "github.com/a-h/templ"

// Component is something that can be drawn.
type Component = templ.Component
