package api

import (
	"encoding/json"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3"
)

// plainIntegers writes the integers of a body as Go reads them: to JSON, 3.0 and 3e0 are the integer 3 too (JSON Schema, 6.1.1). The value has been
// checked against the schema; what is not there is not touched.
func plainIntegers(schema *openapi3.Schema, value any) any {
	for _, schemas := range []openapi3.SchemaRefs{schema.OneOf, schema.AnyOf, schema.AllOf} {
		for _, part := range schemas {
			value = plainIntegers(part.Value, value)
		}
	}
	switch value := value.(type) {
	case json.Number:
		if _, err := value.Int64(); err == nil || !schema.Type.Includes(openapi3.TypeInteger) {
			return value
		}
		if number, err := value.Float64(); err == nil && number == float64(int64(number)) {
			return json.Number(strconv.FormatInt(int64(number), 10))
		}
	case map[string]any:
		for name, property := range schema.Properties {
			if field, found := value[name]; found {
				value[name] = plainIntegers(property.Value, field)
			}
		}
	case []any:
		if schema.Items != nil {
			for i := range value {
				value[i] = plainIntegers(schema.Items.Value, value[i])
			}
		}
	}
	return value
}
