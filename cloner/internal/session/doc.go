// Package session is one connection to a server of a clone: how it is made, asked and ended, and what its errors mean. It
// knows neither phases nor plans.
package session
