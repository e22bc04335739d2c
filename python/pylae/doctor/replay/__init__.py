# SPDX-License-Identifier: Apache-2.0
"""Which plugins make a request fail? A captured one is walked through them again, with plugins left out one by one.

`asking` makes an order of a record or of a described request, `process` has it carried out in a process of its own,
`findings` says what came of it. What runs there stands in `child`.
"""
