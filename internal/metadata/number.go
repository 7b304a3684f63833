package metadata

import (
	"strconv"
	"strings"
)

// plainNumber writes a JSON number without an exponent and without zeros that say nothing, so that equal numbers look the same. It is not ok when a double is too small or too large for it.
func plainNumber(number string) (digits string, ok bool) {
	if len(number) > MaxBytes {
		return number, true // too large as a whole, whatever it is
	}
	mantissa, exponent := number, 0
	if at := strings.IndexAny(number, "eE"); at >= 0 {
		mantissa = number[:at]
		if exponent, ok = parseExponent(number[at+1:]); !ok && strings.ContainsAny(mantissa, "123456789") {
			return "", false
		}
	}
	if !strings.ContainsAny(mantissa, "123456789") {
		return "0", true
	}
	if value, err := strconv.ParseFloat(number, 64); err != nil || value == 0 {
		return "", false
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	switch {
	case exponent > 0:
		fraction += strings.Repeat("0", max(exponent-len(fraction), 0))
		whole, fraction = whole+fraction[:exponent], fraction[exponent:]
	case exponent < 0:
		whole = strings.Repeat("0", max(-exponent-len(whole), 0)) + whole
		whole, fraction = whole[:len(whole)+exponent], whole[len(whole)+exponent:]+fraction
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	digits = whole
	if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
		digits += "." + fraction
	}
	if negative {
		digits = "-" + digits
	}
	return digits, true
}

// parseExponent reads an exponent as far as it can matter: with a mantissa of MaxBytes, a double's is closer to zero than the bound.
func parseExponent(text string) (int, bool) {
	exponent, err := strconv.Atoi(text)
	return exponent, err == nil && exponent < 2*MaxBytes && exponent > -2*MaxBytes
}
