"""Why a head says what it says of some texts: `polyrank attribute`."""
